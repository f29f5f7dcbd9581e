-- Add a batch of jobs that are due at once: all of them, or none.
--
-- KEYS  1 {Q}:jobs     stream  one entry a job, field m
--       2 {Q}:delayed  zset    read: delayed and retrying jobs count towards the bound
--       3 {Q}:token:T  string  the answer, kept for a resent batch
--       4 {Q}:meta     hash    bytes: grows by the envelopes'; what include/admission.lua keeps
-- ARGV  1 the consumer group
--       2 the bound, jobs queued and delayed; 0 for none
--       3 the bound, bytes of envelopes; 0 for none
--       4 the bound, share of the server's maxmemory; 0 for none
--       5 seconds that the token is kept; 0 to keep none
--       6... the envelopes
-- Returns the first entry's id; the rest of the batch is numbered on from it. A list is a refusal.
-- include admission
local kept = redis.call('GET', KEYS[3])
if kept then return kept end

local bytes = 0
for i = 6, #ARGV do bytes = bytes + #ARGV[i] end
local bound = {length = ARGV[2], bytes = ARGV[3], memory = ARGV[4]}
local refused = refusal({jobs = KEYS[1], delayed = KEYS[2], meta = KEYS[4]}, ARGV[1], bound, #ARGV - 5, bytes)
if refused then return refused end

-- `*` for the first only: on 7.0 the clock moves on inside a script, and the ids would have gaps.
local first = redis.call('XADD', KEYS[1], '*', 'm', ARGV[6])
local ms, number = string.match(first, '^(%d+)%-(%d+)$')
ms, number = ms .. '-', number - 6
for i = 7, #ARGV do
  redis.call('XADD', KEYS[1], ms .. (number + i), 'm', ARGV[i])
end
redis.call('HINCRBY', KEYS[4], 'bytes', bytes)
if ARGV[5] ~= '0' then redis.call('SET', KEYS[3], first, 'EX', ARGV[5]) end
return first
