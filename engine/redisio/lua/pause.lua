-- Pause a queue, or resume it, tell its workers, and tell of it.
--
-- KEYS  1 {Q}:meta     hash     paused: there while the queue is
--       2 {Q}:control  channel  "pause" or "resume"
--       3 {Q}:events   stream   one packed event
-- ARGV  1 "pause" or "resume"
--       2 how many batches of events are kept
--       3 the packed event
-- Returns 1.
redis.call('HDEL', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else HSET is refused there
if ARGV[1] == 'pause' then
  redis.call('HSET', KEYS[1], 'paused', '1')
else
  redis.call('HDEL', KEYS[1], 'paused')
end
redis.pcall('PUBLISH', KEYS[2], ARGV[1])
redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'e', ARGV[3])
return 1
