-- Add a batch in which some jobs are due later: all of them, or none.
--
-- KEYS  1 {Q}:jobs     stream  one entry for each job that is due already, field m
--       2 {Q}:delayed  zset    job id -> due
--       3 {Q}:token:T  string  the answer, kept for a resent batch
--       4 {Q}:bodies   hash    job id -> envelope
--       5 {Q}:meta     hash    delayed: numbers the delayed jobs; bytes: grows by the envelopes'; what
--                              include/admission.lua keeps
-- ARGV  1 the consumer group
--       2 the bound, jobs queued and delayed; 0 for none
--       3 the bound, bytes of envelopes; 0 for none
--       4 the bound, share of the server's maxmemory; 0 for none
--       5 seconds that the token is kept; 0 to keep none
--       6 the queue's name
--       7... pairs: when it is due, "+MS" from now or "MS" since the epoch; the envelope
-- Returns "ENTRY MS-dN MARKS": the first entry's id and the first delayed job's (either may be "-"; the rest are
-- numbered on from them), and a letter for each job, q for queued and d for delayed. A list is a refusal.
-- include admission
local kept = redis.call('GET', KEYS[3])
if kept then return kept end

local bytes = 0
for i = 8, #ARGV, 2 do bytes = bytes + #ARGV[i] end
local bound = {length = ARGV[2], bytes = ARGV[3], memory = ARGV[4]}
local keys = {jobs = KEYS[1], delayed = KEYS[2], meta = KEYS[5]}
local refused = refusal(keys, ARGV[1], bound, (#ARGV - 6) / 2, bytes)
if refused then return refused end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', now)
local entry, ms, number = '-', nil, nil
local delayed, last = '-', nil
local marks = {}
for i = 7, #ARGV, 2 do
  local due = ARGV[i]
  if string.sub(due, 1, 1) == '+' then due = now + string.sub(due, 2) else due = tonumber(due) end
  if due > now then
    last = redis.call('HINCRBY', KEYS[5], 'delayed', 1)
    local name = at .. '-d' .. string.format('%.0f', last)
    if delayed == '-' then delayed = name end
    local id = ARGV[6] .. ':' .. name
    redis.call('HSET', KEYS[4], id, ARGV[i + 1])
    redis.call('ZADD', KEYS[2], string.format('%.0f', due), id)
    marks[#marks + 1] = 'd'
  else
    if entry == '-' then
      entry = redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 1])
      ms, number = string.match(entry, '^(%d+)%-(%d+)$')
    else
      number = number + 1
      redis.call('XADD', KEYS[1], ms .. '-' .. number, 'm', ARGV[i + 1])
    end
    marks[#marks + 1] = 'q'
  end
end
local answer = entry .. ' ' .. delayed .. ' ' .. table.concat(marks)
redis.call('HINCRBY', KEYS[5], 'bytes', bytes)
if ARGV[5] ~= '0' then redis.call('SET', KEYS[3], answer, 'EX', ARGV[5]) end
return answer
