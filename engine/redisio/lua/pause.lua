-- Pause a queue, or resume it, and tell its workers.
--
-- KEYS  1 {Q}:meta     hash     paused: there while the queue is
--       2 {Q}:control  channel  "pause" or "resume"
-- ARGV  1 "pause" or "resume"
-- Returns 1.
redis.call('HDEL', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else HSET is refused there
if ARGV[1] == 'pause' then
  redis.call('HSET', KEYS[1], 'paused', '1')
else
  redis.call('HDEL', KEYS[1], 'paused')
end
redis.pcall('PUBLISH', KEYS[2], ARGV[1])
return 1
