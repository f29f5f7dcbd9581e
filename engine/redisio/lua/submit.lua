-- Add a batch of jobs that are due at once: all of them, or none.
--
-- KEYS  1 {Q}:jobs     stream  one entry a job, field m
--       2 {Q}:delayed  zset    read: delayed and retrying jobs count towards the bound
--       3 {Q}:token:T  string  the answer, kept for a resent batch
-- ARGV  1 the consumer group
--       2 the bound, jobs queued and delayed; 0 for none
--       3 seconds that the token is kept; 0 to keep none
--       4... the envelopes
-- Returns the first entry's id; the rest of the batch is numbered on from it. An integer is the depth, for "full".
local kept = redis.call('GET', KEYS[3])
if kept then return kept end

local bound = tonumber(ARGV[2])
if bound > 0 then
  local count = #ARGV - 3
  local length = redis.call('XLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
  if length + count > bound then
    -- Only now is it worth asking how many of the entries are running.
    local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
    if not pending.err then length = length - pending[1] end
    if length + count > bound then return length end
  end
end

-- `*` for the first only: on 7.0 the clock moves on inside a script, and the ids would have gaps.
local first = redis.call('XADD', KEYS[1], '*', 'm', ARGV[4])
local ms, number = string.match(first, '^(%d+)%-(%d+)$')
ms, number = ms .. '-', number - 4
for i = 5, #ARGV do
  redis.call('XADD', KEYS[1], ms .. (number + i), 'm', ARGV[i])
end
if ARGV[3] ~= '0' then redis.call('SET', KEYS[3], first, 'EX', ARGV[3]) end
return first
