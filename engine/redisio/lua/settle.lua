-- End jobs that are done and still have their first entry: acknowledge, delete, and keep their result records.
--
-- KEYS  1 {Q}:workers         zset    read: the registration must still stand
--       2 {Q}:jobs            stream  entries are acknowledged and deleted
--       3 {Q}:result:QUEUE:   string  what the results' keys begin with; the entry follows
--       4 {Q}:delayed         zset    read: whether the queue is empty
--       5 {Q}:meta            hash    bytes: shrinks
--       6 {Q}:events          stream  one packed batch of events, see jobs/events.py
-- ARGV  1 the registration under which the entries were delivered
--       2 the consumer group
--       3 milliseconds that results are kept
--       4 bytes of the envelopes that were counted when they were added
--       5... n entries, then n records; a record may be empty
--     and, last, how many batches of events are kept; the packed batch of these
-- Returns how many entries were acknowledged now, or -1 when the registration is gone and nothing was done.
-- include counting
redis.call('ZREM', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else SET is refused there
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return -1 end

local count = (#ARGV - 6) / 2
local acknowledged = redis.call('XACK', KEYS[2], ARGV[2], unpack(ARGV, 5, count + 4))
if acknowledged == 0 then return 0 end -- the same batch, sent again
redis.call('XDEL', KEYS[2], unpack(ARGV, 5, count + 4))

-- Of a batch that is settled in part, nobody knows here which were counted: its share is near enough.
take_off(KEYS[2], KEYS[4], KEYS[5], math.floor(ARGV[4] * acknowledged / count))

local prefix, ttl = KEYS[3], ARGV[3]
if acknowledged == count then
  for i = 5, count + 4 do
    local record = ARGV[i + count]
    if record ~= '' then redis.call('SET', prefix .. ARGV[i], record, 'PX', ttl) end
  end
else
  -- Some had ended before: their records stand.
  for i = 5, count + 4 do
    local record = ARGV[i + count]
    if record ~= '' then redis.call('SET', prefix .. ARGV[i], record, 'PX', ttl, 'NX') end
  end
end
redis.pcall('XADD', KEYS[6], 'MAXLEN', '~', ARGV[#ARGV - 1], '*', 'e', ARGV[#ARGV])
return acknowledged
