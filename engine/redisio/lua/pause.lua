-- Pause a queue, or resume it, tell its workers, and tell of it.
--
-- KEYS  1 {Q}:meta     hash     paused: there while the queue is
--       2 {Q}:control  channel  "pause" or "resume"
--       3 {Q}:events   stream   one packed event
--       4 {Q}:jobs     stream   looked at only
-- ARGV  1 "pause" or "resume"
--       2 how many batches of events are kept
--       3 the packed event
-- Returns 1 where the queue ever had a job or a worker, else 0: each makes the stream, which then stays, or counts a
-- job that was delayed from the start. That its name is listed says nothing, for a pause lists it, too.
local used = redis.call('EXISTS', KEYS[4]) == 1 or redis.call('HEXISTS', KEYS[1], 'delayed') == 1
redis.call('HDEL', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else HSET is refused there
if ARGV[1] == 'pause' then
  redis.call('HSET', KEYS[1], 'paused', '1')
else
  redis.call('HDEL', KEYS[1], 'paused')
end
redis.pcall('PUBLISH', KEYS[2], ARGV[1])
redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'e', ARGV[3])
return used and 1 or 0
