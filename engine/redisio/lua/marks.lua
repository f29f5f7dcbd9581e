-- List the running jobs of a queue that are to be cancelled; marks that stood too long go, a bounded number at a time.
--
-- KEYS  1 {Q}:cancelled  zset  job id -> when its mark ends
-- ARGV  1 the most to return
-- Returns ids, those that were marked first come first; never one whose mark has ended.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)
if #ended > 0 then redis.call('ZREM', KEYS[1], unpack(ended)) end -- allowed at maxmemory
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, ARGV[1])
