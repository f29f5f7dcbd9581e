-- Add a batch in which some jobs have a unique key or an id of their caller's: all that are new, or none.
--
-- KEYS  1 {Q}:jobs     stream  one entry for each job that is due already, field m
--       2 {Q}:delayed  zset    job id -> due
--       3 {Q}:token:T  string  the answer, kept for a resent batch
--       4 {Q}:bodies   hash    job id -> envelope
--       5 {Q}:meta     hash    delayed: numbers the delayed jobs; bytes: grows by the envelopes'; what
--                              include/admission.lua keeps
--       6 {Q}:index    hash    read: whether the job that has a key is still there
--       7 {Q}:unique:  string  what unique keys begin with; the value is a job's id
--       8 {Q}:id:      string  what callers' ids begin with; the value is a job's id
-- ARGV  1 the consumer group
--       2 the bound, jobs queued and delayed; 0 for none
--       3 the bound, bytes of envelopes; 0 for none
--       4 the bound, share of the server's maxmemory; 0 for none
--       5 seconds that the token is kept; 0 to keep none
--       6 the queue's name
--       7 milliseconds that a key stands after its job is due
--       8... for each job: when it is due, "+MS" from now or "MS" since the epoch; its unique key or ""; its caller's id
--            or ""; the envelope
-- Returns a word for each job: its id behind a "+"; or the id of the job that has its caller's id behind a "=", or of
-- the one that holds its unique key behind a "~". Where both are taken the caller's id counts. A list is a refusal.
-- include admission
local kept = redis.call('GET', KEYS[3])
if kept then return kept end

-- A key whose job was deleted by hand, or by other means than ours, must not block the next for its whole time.
local function lives(id)
  if redis.call('ZSCORE', KEYS[2], id) then return true end
  local entry = redis.call('HGET', KEYS[6], id) or string.match(id, ':(%d+%-%d+)$')
  return entry and entry ~= 'later' and #redis.call('XRANGE', KEYS[1], entry, entry) > 0
end

-- Who has the keys of these jobs now; all are asked for at once.
local asked, has = {}, {}
for i = 8, #ARGV, 4 do
  if ARGV[i + 1] ~= '' then asked[#asked + 1] = KEYS[7] .. ARGV[i + 1] end
  if ARGV[i + 2] ~= '' then asked[#asked + 1] = KEYS[8] .. ARGV[i + 2] end
end
for from = 1, #asked, 1000 do
  local answers = redis.call('MGET', unpack(asked, from, math.min(from + 999, #asked)))
  for n, id in ipairs(answers) do has[asked[from + n - 1]] = id end
end

-- first: for a duplicate, the id or the place of the job before it; mark: which of its keys that one has
local first, mark, taken, count, bytes = {}, {}, {}, 0, 0
for i = 8, #ARGV, 4 do
  local unique, caller = ARGV[i + 1] ~= '' and KEYS[7] .. ARGV[i + 1], ARGV[i + 2] ~= '' and KEYS[8] .. ARGV[i + 2]
  local other = caller and (taken[caller] or has[caller])
  if other then
    first[i], mark[i] = other, '='
  else
    other = unique and taken[unique]
    if not other and unique and has[unique] and lives(has[unique]) then other = has[unique] end
    if other then first[i], mark[i] = other, '~' end
  end
  if not other then
    if unique then taken[unique] = i end
    if caller then taken[caller] = i end
    count, bytes = count + 1, bytes + #ARGV[i + 3]
  end
end

if count > 0 then
  local bound = {length = ARGV[2], bytes = ARGV[3], memory = ARGV[4]}
  local refused = refusal({jobs = KEYS[1], delayed = KEYS[2], meta = KEYS[5]}, ARGV[1], bound, count, bytes)
  if refused then return refused end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids, words = {}, {}
for i = 8, #ARGV, 4 do
  local other = first[i]
  if other then
    words[#words + 1] = mark[i] .. (ids[other] or other)
  else
    local due = ARGV[i]
    if string.sub(due, 1, 1) == '+' then due = now + string.sub(due, 2) else due = tonumber(due) end
    local id
    if due > now then
      local number = redis.call('HINCRBY', KEYS[5], 'delayed', 1)
      id = ARGV[6] .. ':' .. string.format('%.0f-d%.0f', now, number)
      redis.call('HSET', KEYS[4], id, ARGV[i + 3])
      redis.call('ZADD', KEYS[2], string.format('%.0f', due), id)
    else
      id = ARGV[6] .. ':' .. redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 3])
    end
    ids[i], words[#words + 1] = id, '+' .. id
    local stands = string.format('%.0f', ARGV[7] + math.max(0, due - now))
    if ARGV[i + 1] ~= '' then redis.call('SET', KEYS[7] .. ARGV[i + 1], id, 'PX', stands) end
    if ARGV[i + 2] ~= '' then redis.call('SET', KEYS[8] .. ARGV[i + 2], id, 'PX', stands) end
  end
end
if bytes > 0 then redis.call('HINCRBY', KEYS[5], 'bytes', bytes) end
local answer = table.concat(words, ' ')
if ARGV[5] ~= '0' then redis.call('SET', KEYS[3], answer, 'EX', ARGV[5]) end
return answer
