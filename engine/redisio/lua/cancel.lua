-- Cancel jobs of one queue: end each where it waits, mark it where it runs and tell its worker; tell of those that ended.
--
-- KEYS  1 {Q}:jobs       stream   entries are deleted
--       2 {Q}:delayed    zset     loses jobs
--       3 {Q}:bodies     hash     loses jobs
--       4 {Q}:index      hash     loses jobs
--       5 {Q}:cancelled  zset     job id -> when its mark ends
--       6 {Q}:result:    string   what the results' keys begin with; the job's id follows
--       7 {Q}:control    channel  "cancel ID"
--       8 {Q}:meta       hash     bytes: shrinks
--       9 {Q}:unique:    string   what unique keys begin with; a job's own is freed
--      10 {Q}:id:        string   what callers' ids begin with; a job's own is kept as long as its record
--      11 {Q}:events     stream   one packed batch of the jobs that ended by this, see jobs/events.py
-- ARGV  1 the consumer group
--       2 the consumer that holds what was given back
--       3 milliseconds that a mark stands; 0 to leave alone what runs
--       4 how many batches of events are kept
--       5 the bytes of a packed batch before its list of ids
--       6 the bytes behind it
--       7... for each job, seven: its id; the entry in that id, "" when it was delayed from the start; its record, ""
--         for none; milliseconds that the record is kept; its unique key, "" for none; its caller's id, "" for none;
--         its id as it is packed in a batch
-- Returns for each job 1 when it has ended by this, 2 when its worker was told, 0 when it had ended before or was left
-- alone.
-- include counting
-- include packing
redis.call('ZREM', KEYS[2], '') -- a write that is allowed at maxmemory must come first, else SET is refused there

-- Take a job out of its place; returns its bytes, or nil and the answer when that is not to be, or not possible.
local function take_out(id, first_entry)
  local place = redis.call('HGET', KEYS[4], id)
  if redis.call('ZREM', KEYS[2], id) == 1 then
    local bytes = redis.call('HSTRLEN', KEYS[3], id)
    redis.call('HDEL', KEYS[3], id)
    return bytes
  end
  local entry = place or first_entry
  local found = entry ~= '' and entry ~= 'later' and redis.call('XRANGE', KEYS[1], entry, entry)[1]
  if not found then
    redis.call('ZREM', KEYS[5], id)
    return nil, 0
  end
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], entry, entry, 1)
  if not pending.err and #pending > 0 then
    if pending[1][2] ~= ARGV[2] then
      if ARGV[3] == '0' then return nil, 0 end
      local time = redis.call('TIME')
      redis.call('ZADD', KEYS[5], string.format('%.0f', time[1] * 1000 + ARGV[3]), id)
      redis.pcall('PUBLISH', KEYS[7], 'cancel ' .. id)
      return nil, 2
    end
    redis.call('XACK', KEYS[1], ARGV[1], entry)
  end
  redis.call('XDEL', KEYS[1], entry)
  return found[2][1] == 'm' and #found[2][2] or 0 -- plain fields were never counted
end

-- It has ended: what is written now goes by pcall, for the event must follow whatever one of these meets.
local function close(id, record, kept_ms, unique, caller)
  redis.pcall('HDEL', KEYS[4], id)
  redis.pcall('ZREM', KEYS[5], id)
  if record ~= '' then redis.pcall('SET', KEYS[6] .. id, record, 'PX', kept_ms) end
  if unique ~= '' and redis.pcall('GET', KEYS[9] .. unique) == id then redis.pcall('DEL', KEYS[9] .. unique) end
  if caller ~= '' and redis.pcall('GET', KEYS[10] .. caller) == id then
    if record ~= '' then
      redis.pcall('PEXPIRE', KEYS[10] .. caller, kept_ms)
    else
      redis.pcall('DEL', KEYS[10] .. caller)
    end
  end
end

local answers, ended, freed = {}, {}, 0
for i = 7, #ARGV, 7 do
  local id, answer = ARGV[i], 0
  if redis.call('EXISTS', KEYS[6] .. id) == 1 then
    redis.call('ZREM', KEYS[5], id)
  else
    local bytes
    bytes, answer = take_out(id, ARGV[i + 1])
    if bytes then
      close(id, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
      freed, ended[#ended + 1], answer = freed + bytes, ARGV[i + 6], 1
    end
  end
  answers[#answers + 1] = answer
end
if #ended > 0 then
  redis.pcall('XADD', KEYS[11], 'MAXLEN', '~', ARGV[4], '*', 'e', packed_jobs(ARGV[5], ended, ARGV[6]))
  take_off(KEYS[1], KEYS[2], KEYS[8], freed)
end
return answers
