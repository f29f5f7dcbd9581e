-- Enter a registration in a queue, in place of an older one of the same worker, and see that the group exists.
--
-- KEYS  1 {Q}:workers  zset    registration -> when its lease ends
--       2 {Q}:jobs     stream  made if it is not there, with its group
--       3 {Q}:meta     hash    lease: the longest lease seen
-- ARGV  1 the registration
--       2 the lease in milliseconds
--       3 the consumer group
--       4 the older registration, "" for none
-- Returns 1, or 2 when the group was not there and is made now.
redis.call('ZREM', KEYS[1], ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
-- From 0: jobs may have come before the first worker did.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[3], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
-- The sweep takes an expiry further away than two leases for a clock that was set back: it must know the longest.
if tonumber(ARGV[2]) > tonumber(redis.call('HGET', KEYS[3], 'lease') or 0) then
  redis.call('HSET', KEYS[3], 'lease', ARGV[2])
end
return made.err and 1 or 2
