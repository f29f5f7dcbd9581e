-- Remove a registration; its consumer goes too unless entries are still with it, which a sweep then takes over.
--
-- KEYS  1 {Q}:workers  zset    registration -> when its lease ends
--       2 {Q}:jobs     stream  its group's consumer
-- ARGV  1 the registration, which is the consumer's name
--       2 the consumer group
-- Returns 1 when it was there.
local was = redis.call('ZREM', KEYS[1], ARGV[1])
local pending = redis.pcall('XPENDING', KEYS[2], ARGV[2], '-', '+', 1, ARGV[1])
if not pending.err and #pending == 0 then
  redis.pcall('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], ARGV[1])
end
return was
