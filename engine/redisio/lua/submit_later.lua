-- Add a batch in which some jobs are due later: all of them, or none.
--
-- KEYS  1 {Q}:jobs     stream  one entry for each job that is due already, field m
--       2 {Q}:delayed  zset    job id -> due
--       3 {Q}:token:T  string  the answer, kept for a resent batch
--       4 {Q}:bodies   hash    job id -> envelope
--       5 {Q}:meta     hash    delayed: numbers the delayed jobs
-- ARGV  1 the consumer group
--       2 the bound, jobs queued and delayed; 0 for none
--       3 seconds that the token is kept; 0 to keep none
--       4 the queue's name
--       5... pairs: when it is due, "+MS" from now or "MS" since the epoch; the envelope
-- Returns "ENTRY MS-dN MARKS": the first entry's id and the first delayed job's (either may be "-"; the rest are
-- numbered on from them), and a letter for each job, q for queued and d for delayed. An integer is the depth, for "full".
local kept = redis.call('GET', KEYS[3])
if kept then return kept end

local bound = tonumber(ARGV[2])
if bound > 0 then
  local count = (#ARGV - 4) / 2
  local length = redis.call('XLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
  if length + count > bound then
    local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
    if not pending.err then length = length - pending[1] end
    if length + count > bound then return length end
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', now)
local entry, ms, number = '-', nil, nil
local delayed, last = '-', nil
local marks = {}
for i = 5, #ARGV, 2 do
  local due = ARGV[i]
  if string.sub(due, 1, 1) == '+' then due = now + string.sub(due, 2) else due = tonumber(due) end
  if due > now then
    last = redis.call('HINCRBY', KEYS[5], 'delayed', 1)
    local name = at .. '-d' .. string.format('%.0f', last)
    if delayed == '-' then delayed = name end
    local id = ARGV[4] .. ':' .. name
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
if ARGV[3] ~= '0' then redis.call('SET', KEYS[3], answer, 'EX', ARGV[3]) end
return answer
