-- Read the oldest dead letters beyond those that a queue may keep, for one worker that exports them.
--
-- KEYS  1 {Q}:dead         zset    loses what expired, a bounded number at a time, and what has no letter any more
--       2 {Q}:deadletter:  string  what the letters' keys begin with; the job's id follows
--       3 {Q}:meta         hash    exporter: who exports, until when
-- ARGV  1 how many letters the queue may keep
--       2 the most to return
--       3 the most bytes of letters to return; the first comes whatever its size
--       4 milliseconds that dead letters are kept
--       5 who asks
--       6 milliseconds for which others are told of none, so that each letter is exported once as a rule
-- Returns a flat list of ids and letters, the oldest first.
-- A write that is allowed at maxmemory comes first: exporting is what makes room there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local past = string.format('%.0f', now - ARGV[4])
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', past, 'LIMIT', 0, 1000) -- others wait meanwhile
redis.call('ZREM', KEYS[1], '', unpack(expired)) -- also where nothing expired, for the sake of the next write
local beyond = redis.call('ZCOUNT', KEYS[1], '(' .. past, '+inf') - ARGV[1]
if beyond <= 0 then return {} end

local untils, exporter = string.match(redis.call('HGET', KEYS[3], 'exporter') or '', '^(%d+) (.+)$')
-- An end too far off to be true was written before the clock was set back.
if exporter and exporter ~= ARGV[5] and tonumber(untils) > now and untils - now <= tonumber(ARGV[6]) then return {} end
redis.call('HSET', KEYS[3], 'exporter', string.format('%.0f %s', now + ARGV[6], ARGV[5]))

local found, bytes = {}, 0
local most = math.min(beyond, tonumber(ARGV[2]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. past, '+inf', 'LIMIT', 0, most)) do
  local letter = redis.call('GET', KEYS[2] .. id)
  if letter then
    bytes = bytes + #letter
    if #found > 0 and bytes > tonumber(ARGV[3]) then break end
    found[#found + 1] = id
    found[#found + 1] = letter
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return found
