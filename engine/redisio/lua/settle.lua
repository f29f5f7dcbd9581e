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
--       5 how many entries
--       6 how many batches of events are kept
--       7 the packed batch of these
--       8... the entries; then a record for each, or one that all share, or none where none is kept
-- Returns how many entries were acknowledged now, or -1 when the registration is gone and nothing was done.
-- A record may be empty, for none.
-- include counting
redis.call('ZREM', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else SET is refused there
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return -1 end

local count = tonumber(ARGV[5])
local last = count + 7
local acknowledged = redis.call('XACK', KEYS[2], ARGV[2], unpack(ARGV, 8, last))
if acknowledged == 0 then return 0 end -- the same batch, sent again
redis.call('XDEL', KEYS[2], unpack(ARGV, 8, last))

-- Of a batch that is settled in part, nobody knows here which were counted: its share is near enough.
-- From here on each write is tried whatever became of the one before, and the first refusal is answered at the end:
-- sent again, the batch finds nothing left to acknowledge.
local refused = take_off(KEYS[2], KEYS[4], KEYS[5], math.floor(ARGV[4] * acknowledged / count))

if #ARGV > last then
  local call, prefix, ttl, shared = redis.pcall, KEYS[3], ARGV[3], #ARGV == last + 1 and ARGV[last + 1]
  if acknowledged == count then
    for i = 8, last do
      local record = shared or ARGV[i + count]
      if record ~= '' then
        local kept = call('SET', prefix .. ARGV[i], record, 'PX', ttl)
        if kept.err then refused = refused or kept end
      end
    end
  else
    -- Some had ended before: their records stand.
    for i = 8, last do
      local record = shared or ARGV[i + count]
      if record ~= '' then
        local kept = call('SET', prefix .. ARGV[i], record, 'PX', ttl, 'NX')
        if kept and kept.err then refused = refused or kept end -- false: there was one
      end
    end
  end
end
redis.pcall('XADD', KEYS[6], 'MAXLEN', '~', ARGV[6], '*', 'e', ARGV[7])
return refused or acknowledged
