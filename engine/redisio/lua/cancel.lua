-- Cancel one job: end it where it waits, mark it where it runs and tell its worker.
--
-- KEYS  1 {Q}:jobs       stream   its entry is deleted
--       2 {Q}:delayed    zset     loses the job
--       3 {Q}:bodies     hash     loses the job
--       4 {Q}:index      hash     loses the job
--       5 {Q}:cancelled  zset     job id -> when its mark ends
--       6 {Q}:result:ID  string   its record
--       7 {Q}:control    channel  "cancel ID"
--       8 {Q}:meta       hash     bytes: shrinks
--       9 {Q}:unique:    string   what unique keys begin with; its own is freed
--      10 {Q}:id:        string   what callers' ids begin with; its own is kept as long as its record
-- ARGV  1 the job's id
--       2 the entry in that id; "" when it was delayed from the start
--       3 the consumer group
--       4 the consumer that holds what was given back
--       5 its record, "" for none
--       6 milliseconds that the record is kept
--       7 milliseconds that a mark stands; 0 to leave alone what runs
--       8 its unique key, "" for none
--       9 its caller's id, "" for none
-- Returns 1 when it has ended by this, 2 when its worker was told, 0 when it had ended before or was left alone.
-- include counting
local id, bytes = ARGV[1], 0
redis.call('ZREM', KEYS[2], '') -- a write that is allowed at maxmemory must come first, else SET is refused there
if redis.call('EXISTS', KEYS[6]) == 1 then
  redis.call('ZREM', KEYS[5], id)
  return 0
end

local place = redis.call('HGET', KEYS[4], id)
if redis.call('ZREM', KEYS[2], id) == 1 then
  bytes = redis.call('HSTRLEN', KEYS[3], id)
  redis.call('HDEL', KEYS[3], id)
else
  local entry = place or ARGV[2]
  local found = entry ~= '' and entry ~= 'later' and redis.call('XRANGE', KEYS[1], entry, entry)[1]
  if not found then
    redis.call('ZREM', KEYS[5], id)
    return 0
  end
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[3], entry, entry, 1)
  if not pending.err and #pending > 0 then
    if pending[1][2] ~= ARGV[4] then
      if ARGV[7] == '0' then return 0 end
      local time = redis.call('TIME')
      redis.call('ZADD', KEYS[5], string.format('%.0f', time[1] * 1000 + ARGV[7]), id)
      redis.pcall('PUBLISH', KEYS[7], 'cancel ' .. id)
      return 2
    end
    redis.call('XACK', KEYS[1], ARGV[3], entry)
  end
  redis.call('XDEL', KEYS[1], entry)
  if found[2][1] == 'm' then bytes = #found[2][2] end -- plain fields were never counted
end
take_off(KEYS[1], KEYS[2], KEYS[8], bytes)
redis.call('HDEL', KEYS[4], id)
redis.call('ZREM', KEYS[5], id)
if ARGV[5] ~= '' then redis.call('SET', KEYS[6], ARGV[5], 'PX', ARGV[6]) end
local unique, caller = KEYS[9] .. ARGV[8], KEYS[10] .. ARGV[9]
if ARGV[8] ~= '' and redis.call('GET', unique) == id then redis.call('DEL', unique) end
if ARGV[9] ~= '' and redis.call('GET', caller) == id then
  if ARGV[5] ~= '' then redis.call('PEXPIRE', caller, ARGV[6]) else redis.call('DEL', caller) end
end
return 1
