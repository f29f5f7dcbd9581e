-- Put an edited dead letter in the place of the one that it was made of, for as long as that would have stayed.
--
-- KEYS  1 {Q}:deadletter:ID  string  replaced
-- ARGV  1 the letter as it was read
--       2 the letter that takes its place
-- Returns 1, or 0 when it is not there any more, or is another by now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
