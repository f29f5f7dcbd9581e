-- Take over entries that nobody works on: those of revoked registrations and those given back. Sweeps of several
-- workers at once do no harm.
--
-- KEYS  1 {Q}:workers     zset    registration -> when its lease ends; expired ones are revoked here
--       2 {Q}:jobs        stream  entries change their consumer; consumers of the revoked go when they hold nothing
--       3 {Q}:meta        hash    read: the longest lease seen
--       4 {Q}:token:T     string  what was taken, so that the same sweep sent again gets it again
-- ARGV  1 this worker's registration
--       2 the consumer group
--       3 the consumer that holds what was given back
--       4 the most to take over
--       5 this worker's lease in milliseconds
--       6 seconds that the token is kept
--       7 starts without an outcome from which on an entry is a suspect; 0 for none
--       8 the most suspects to take over
--       9 what one interruption adds to a delivery count, beside starts
--      10 the same as 7 for some handlers: "name=starts", a line each
--      11... entries that this worker took over before, and so has in hand
-- Returns triples: entry, earlier deliveries, fields; or an integer, 0, when this worker's own registration is gone.
redis.call('ZREM', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else SET is refused there
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local group, me, room = ARGV[2], ARGV[1], tonumber(ARGV[4])
local taken = {}

local function give(entry, count)
  local found = redis.call('XRANGE', KEYS[2], entry, entry)
  if #found == 0 then
    redis.call('XACK', KEYS[2], group, entry) -- somebody deleted it: nothing is left to run
    return false
  end
  taken[#taken + 1] = entry
  taken[#taken + 1] = count
  taken[#taken + 1] = found[1][2]
  return true
end

local kept = redis.call('GET', KEYS[4])
if kept then
  local held = {}
  for i = 11, #ARGV do held[ARGV[i]] = true end
  for entry, count in string.gmatch(kept, '(%S+) (%d+)') do
    if not held[entry] and #redis.call('XPENDING', KEYS[2], group, entry, entry, 1, me) > 0 then give(entry, tonumber(count)) end
  end
  return taken
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = math.max(tonumber(ARGV[5]), tonumber(redis.call('HGET', KEYS[3], 'lease') or 0))
-- A lease that ends further away than any can was entered before the clock was set back.
local too_far = string.format('(%.0f', now + 2 * lease)
for _, range in ipairs({{'-inf', string.format('(%.0f', now)}, {too_far, '+inf'}}) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], range[1], range[2], 'LIMIT', 0, 100)) do
    if member ~= me then redis.call('ZREM', KEYS[1], member) end
  end
end

local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[2], group)
if consumers.err then return taken end

local suspect_starts, suspect_room, interruption = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local starts_of = {}
for name, starts in string.gmatch(ARGV[10], '([^\n]+)=(%d+)') do starts_of[name] = tonumber(starts) end

-- The handler's name, which is what an envelope begins with; nil where it is not so.
local function name_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'name' then return fields[i + 1] end
    if fields[i] == 'm' then
      local body = fields[i + 1]
      local kind = string.byte(body, 3) or 0
      if kind >= 0xa0 and kind < 0xc0 then return string.sub(body, 4, 3 + kind - 0xa0) end
      if kind == 0xd9 then return string.sub(body, 5, 4 + (string.byte(body, 4) or 0)) end
    end
  end
  return nil
end

-- Whether a job may be what killed its workers. Few come as far as to have their handler looked up.
local function is_suspect(entry, starts)
  if suspect_starts == 0 or starts < suspect_starts then return false end
  local found = redis.call('XRANGE', KEYS[2], entry, entry)[1]
  local name = found and name_of(found[2])
  return starts >= (name and starts_of[name] or suspect_starts)
end

local function sweep(consumer)
  -- Suspects that are passed over must not hide what is behind them; a hundred more are looked at.
  local swept = redis.call('XPENDING', KEYS[2], group, '-', '+', room + 100, consumer)
  local left = #swept
  for _, pending in ipairs(swept) do
    if room <= 0 then break end
    local entry, count = pending[1], pending[4]
    local suspect = is_suspect(entry, count % interruption)
    if not suspect or suspect_room > 0 then
      left = left - 1
      if give(entry, count) then
        redis.call('XCLAIM', KEYS[2], group, me, 0, entry, 'RETRYCOUNT', count + 1, 'JUSTID')
        room = room - 1
        if suspect then suspect_room = suspect_room - 1 end
      end
    end
  end
  return #swept - left
end

local gone = {}
for _, flat in ipairs(consumers) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer.name == ARGV[3] then
    if room > 0 and consumer.pending > 0 then sweep(consumer.name) end
  elseif consumer.name ~= me and not redis.call('ZSCORE', KEYS[1], consumer.name) then
    gone[#gone + 1] = consumer
  end
  if #gone == 100 then break end
end
for _, consumer in ipairs(gone) do
  local left = consumer.pending
  if room > 0 and left > 0 then left = left - sweep(consumer.name) end
  -- Only here, where nothing can come between: what a deleted consumer holds could never be claimed again.
  if left == 0 and #redis.call('XPENDING', KEYS[2], group, '-', '+', 1, consumer.name) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], group, consumer.name)
  end
end

if #taken > 0 then
  local lines = {}
  for i = 1, #taken, 3 do lines[#lines + 1] = taken[i] .. ' ' .. taken[i + 1] end
  redis.call('SET', KEYS[4], table.concat(lines, '\n'), 'EX', ARGV[6])
end
return taken
