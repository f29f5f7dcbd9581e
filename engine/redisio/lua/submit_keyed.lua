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
--       8 how many jobs
--       9 a letter for each column that follows the envelopes: u, i, d, those that say anything
--       10... the envelopes; u: unique keys, "" for none; i: callers' ids, "" for none; d: when each job is due, "+MS"
--            from now or "MS" since the epoch, at once without this column
-- Returns the first entry's id where all jobs are new and due; the rest of the batch is numbered on from it. Else a word
-- for each job: its id behind a "+"; or the id of the job that has its caller's id behind a "=", or of the one that
-- holds its unique key behind a "~". Where both are taken the caller's id counts. A list is a refusal.
-- include admission
local kept = redis.call('GET', KEYS[3])
if kept then return kept end

-- A key whose job was deleted by hand, or by other means than ours, must not block the next for its whole time.
local function lives(id)
  if redis.call('ZSCORE', KEYS[2], id) then return true end
  local entry = redis.call('HGET', KEYS[6], id) or string.match(id, ':(%d+%-%d+)$')
  return entry and entry ~= 'later' and #redis.call('XRANGE', KEYS[1], entry, entry) > 0
end

local count, before = tonumber(ARGV[8]), {} -- before: letter -> the place before its column
for n = 1, #ARGV[9] do before[string.sub(ARGV[9], n, n)] = 9 + n * count end

local asked = {}
local function names(letter, prefix)
  local found, from = {}, before[letter]
  if from then
    for i = 1, count do
      local name = ARGV[from + i]
      if name ~= '' then
        name = prefix .. name
        found[i], asked[#asked + 1] = name, name
      end
    end
  end
  return found
end
local unique, caller = names('u', KEYS[7]), names('i', KEYS[8])

-- Who has the keys: an id, or the place of a job of this batch. All are asked for at once.
local has = {}
for from = 1, #asked, 1000 do
  local answers = redis.call('MGET', unpack(asked, from, math.min(from + 999, #asked)))
  for n = 1, #answers do
    if answers[n] then has[asked[from + n - 1]] = answers[n] end
  end
end

local first, mark, new, bytes = {}, {}, 0, 0 -- first: who has a key of a duplicate; mark: which of its keys
for i = 1, count do
  local own, key = caller[i], unique[i]
  local other, which = own and has[own], '='
  if not other and key then
    other, which = has[key], '~'
    if type(other) == 'string' and not lives(other) then other = nil end
  end
  if other then
    first[i], mark[i] = other, which
  else
    if own then has[own] = i end
    if key then has[key] = i end
    new, bytes = new + 1, bytes + #ARGV[9 + i]
  end
end

if new > 0 then
  local bound = {length = ARGV[2], bytes = ARGV[3], memory = ARGV[4]}
  local refused = refusal({jobs = KEYS[1], delayed = KEYS[2], meta = KEYS[5]}, ARGV[1], bound, new, bytes)
  if refused then return refused end
end

-- A call for each key costs as much as adding a job, so many are set in one, by a server that can (Valkey 9.1, Redis
-- 8.4). It is asked first, since a call of a command that it lacks would count among its errors; and its user may lack
-- the right to this one.
local function set(list, until_ms)
  local size = #list
  if size >= 16 and size <= 4000 then -- unpack takes no more than 8000
    local known = redis.pcall('COMMAND', 'INFO', 'MSETEX')
    if not known.err and known[1] then
      list[size + 1], list[size + 2] = 'PXAT', until_ms
      local done = redis.pcall('MSETEX', size / 2, unpack(list))
      if type(done) ~= 'table' then return end
    end
  end
  for n = 1, size, 2 do redis.call('SET', list[n], list[n + 1], 'PXAT', until_ms) end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local soon, waiting = string.format('%.0f', now + ARGV[7]), {} -- waiting: when keys end -> key, id, key, id, ...
local ids, ms, number, queue, later = {}, nil, nil, ARGV[6] .. ':', before.d
for i = 1, count do
  if not first[i] then
    local due, ends, id = now, soon, nil
    if later then
      due = ARGV[later + i]
      if string.sub(due, 1, 1) == '+' then due = now + string.sub(due, 2) else due = tonumber(due) end
    end
    if due > now then
      ends = string.format('%.0f', due + ARGV[7])
      id = queue .. string.format('%.0f-d%.0f', now, redis.call('HINCRBY', KEYS[5], 'delayed', 1))
      redis.call('HSET', KEYS[4], id, ARGV[9 + i])
      redis.call('ZADD', KEYS[2], string.format('%.0f', due), id)
    elseif ms then
      number = number + 1
      local entry = ms .. number
      redis.call('XADD', KEYS[1], entry, 'm', ARGV[9 + i])
      id = queue .. entry
    else -- `*` for the first only, as in submit.lua
      local entry = redis.call('XADD', KEYS[1], '*', 'm', ARGV[9 + i])
      ms, number = string.match(entry, '^(%d+%-)(%d+)$')
      id = queue .. entry
    end
    ids[i] = id
    local list, own, key = waiting[ends], caller[i], unique[i]
    if not list then
      list = {}
      waiting[ends] = list
    end
    local size = #list
    if key then list[size + 1], list[size + 2], size = key, id, size + 2 end
    if own then list[size + 1], list[size + 2] = own, id end
  end
end
for ends, list in pairs(waiting) do set(list, ends) end
if bytes > 0 then redis.call('HINCRBY', KEYS[5], 'bytes', bytes) end

local answer
if new == count and not later then
  answer = string.sub(ids[1], #queue + 1)
else
  local words = {}
  for i = 1, count do
    local other = first[i]
    words[i] = other and mark[i] .. (ids[other] or other) or '+' .. ids[i]
  end
  answer = table.concat(words, ' ')
end
if ARGV[5] ~= '0' then redis.call('SET', KEYS[3], answer, 'EX', ARGV[5]) end
return answer
