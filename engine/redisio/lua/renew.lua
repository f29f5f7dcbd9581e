-- Keep a registration; only a sweep removes one, so an expired one that was not swept yet may be renewed.
--
-- KEYS  1 {Q}:workers  zset  registration -> when its lease ends
-- ARGV  1 the registration
--       2 the lease in milliseconds
-- Returns 1, or 0 when it is not there any more.
redis.call('ZREM', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else ZADD is refused there
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
return 1
