-- Queue a dead job again under its id.
--
-- KEYS  1 {Q}:jobs           stream  gets an entry with fields m and i
--       2 {Q}:index          hash    job id -> that entry
--       3 {Q}:dead           zset    loses the job
--       4 {Q}:deadletter:ID  string  removed
--       5 {Q}:result:ID      string  removed
--       6 {Q}:meta           hash    fields moved: entries that are no new job; bytes: grows
-- ARGV  1 the job's id
--       2 its envelope, its counters set back
--       3 the SHA-1 of the letter that the envelope was read from
-- Returns 1, 0 when there is no such letter any more, or -1 when it was edited, or died again, since it was read.
local letter = redis.call('GET', KEYS[4])
if not letter then return 0 end
if redis.sha1hex(letter) ~= ARGV[3] then return -1 end
local entry = redis.call('XADD', KEYS[1], '*', 'm', ARGV[2], 'i', ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], entry)
redis.call('HINCRBY', KEYS[6], 'moved', 1)
redis.call('HINCRBY', KEYS[6], 'bytes', #ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4], KEYS[5])
return 1
