-- End jobs one by one: those that left their first entry, those that are tried again, those that are given up.
--
-- KEYS  1 {Q}:workers     zset    read: the registration must still stand
--       2 {Q}:jobs        stream  entries are acknowledged and deleted
--       3 {Q}:index       hash    job id -> "later" when it is tried again; removed when it ends
--       4 {Q}:delayed     zset    job id -> due, when it is tried again
--       5 {Q}:bodies      hash    job id -> the next try's envelope
--       6 {Q}:dead        zset    job id -> when it died; what is older than a dead letter may get is removed
--       7 {Q}:deadletter: string  what the dead letters' keys begin with; the job's id follows
--       8 {Q}:result:     string  what the results' keys begin with; the job's id follows
--       9 {Q}:meta        hash    bytes: changes as the envelopes do
--      10 {Q}:unique:     string  what unique keys begin with; freed when their job ends, pushed on when it goes on
--      11 {Q}:id:         string  what callers' ids begin with; kept as long as the record of their job
--      12 {Q}:events      stream  one packed batch of events, see jobs/events.py
-- ARGV  1 the registration under which the entries were delivered
--       2 the consumer group
--       3 milliseconds that dead letters are kept
--       4 milliseconds that a unique key stands when its job goes on
--       5... for each job: entry, job id, kind (done, retry, dead), number, bytes, bytes, bytes by which the queue
--            shrinks, its unique key or "", its caller's id or "":
--            done   milliseconds that its record is kept, the record or "", ""
--            retry  milliseconds until the next try, its envelope, ""
--            dead   milliseconds that its record is kept, the record or "", the dead letter
--     and, last, how many batches of events are kept; the packed batch of these
-- Returns how many entries were acknowledged now, or -1 when the registration is gone and nothing was done.
-- Each job that goes on is written down first and acknowledged last: a script that fails in between is not rolled back,
-- and a job that is in two places runs twice, which is better than not at all.
-- include counting
redis.call('ZREM', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else the others are refused there
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return -1 end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local acknowledged, died, shrunk = 0, false, 0

-- Let a key that still is this job's stand for so many milliseconds more; for none, free it.
local function keep(key, id, ttl)
  if redis.call('GET', key) ~= id then return end
  if ttl > 0 then redis.call('PEXPIRE', key, string.format('%.0f', ttl)) else redis.call('DEL', key) end
end

local refused -- the first write that was, of those that come after jobs have ended; answered when all else is written

-- The common case at a fraction of its price: all of them are done, and none has a key of its own.
local function end_plainly()
  local entries, ids = {}, {}
  for i = 5, #ARGV - 2, 9 do
    if ARGV[i + 2] ~= 'done' or ARGV[i + 7] ~= '' or ARGV[i + 8] ~= '' then return false end
    entries[#entries + 1], ids[#ids + 1] = ARGV[i], ARGV[i + 1]
  end
  local places = redis.call('HMGET', KEYS[3], unpack(ids))
  acknowledged = redis.call('XACK', KEYS[2], ARGV[2], unpack(entries))
  if acknowledged == 0 then return true end -- the same batch, sent again
  redis.call('XDEL', KEYS[2], unpack(entries))
  local all, ended = acknowledged == #entries, {}
  for n, id in ipairs(ids) do
    local i, here = 9 * n - 4, places[n] == entries[n]
    if here then ended[#ended + 1] = id end
    if ARGV[i + 4] ~= '' and (all or here) then -- else it had ended before: its record stands, or it is elsewhere by now
      local kept = redis.pcall('SET', KEYS[8] .. id, ARGV[i + 4], 'PX', ARGV[i + 3])
      if kept.err then refused = refused or kept end
    end
    shrunk = shrunk + ARGV[i + 6]
  end
  if #ended > 0 then
    local gone = redis.pcall('HDEL', KEYS[3], unpack(ended))
    if type(gone) == 'table' then refused = refused or gone end
  end
  -- Of a batch that is settled in part, nobody knows here which were counted: its share is near enough.
  shrunk = math.floor(shrunk * acknowledged / #entries)
  return true
end

local function end_one_by_one()
  for i = 5, #ARGV - 2, 9 do
    local entry, id, kind, number, bytes = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
    local unique, caller = ARGV[i + 7], ARGV[i + 8]
    local pending = redis.pcall('XPENDING', KEYS[2], ARGV[2], entry, entry, 1)
    if not pending.err and #pending > 0 then -- else it was settled before, or the server was emptied: there is no group
      if kind == 'retry' then
        redis.call('HSET', KEYS[5], id, bytes)
        redis.call('HSET', KEYS[3], id, 'later')
        redis.call('ZADD', KEYS[4], string.format('%.0f', now + number), id)
      else
        if kind == 'dead' then
          redis.call('SET', KEYS[7] .. id, ARGV[i + 5], 'PX', ARGV[3])
          redis.call('ZADD', KEYS[6], string.format('%.3f', now + i / 9000), id) -- in the batch's order
          died = true
        end
        if bytes ~= '' then redis.call('SET', KEYS[8] .. id, bytes, 'PX', number) end
        redis.call('HDEL', KEYS[3], id)
      end
      local stands = kind == 'retry' and number + ARGV[4] or 0
      if unique ~= '' then keep(KEYS[10] .. unique, id, stands) end
      if caller ~= '' then keep(KEYS[11] .. caller, id, kind ~= 'retry' and bytes ~= '' and tonumber(number) or stands) end
      shrunk = shrunk + ARGV[i + 6]
      acknowledged = acknowledged + redis.call('XACK', KEYS[2], ARGV[2], entry)
      redis.call('XDEL', KEYS[2], entry)
    end
  end
end

if not end_plainly() then end_one_by_one() end
local uncounted = take_off(KEYS[2], KEYS[4], KEYS[9], shrunk)
if died then -- of what expired a bounded number, since others wait meanwhile; '' for where there is none
  local past = string.format('%.0f', now - ARGV[3])
  redis.call('ZREM', KEYS[6], '', unpack(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', past, 'LIMIT', 0, 1000)))
end
-- Of a batch that is settled in part, what was told before is told again: readers may hear of a job twice.
if acknowledged > 0 then redis.pcall('XADD', KEYS[12], 'MAXLEN', '~', ARGV[#ARGV - 1], '*', 'e', ARGV[#ARGV]) end
return refused or uncounted or acknowledged
