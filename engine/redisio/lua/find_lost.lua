-- Find entries that were delivered to this worker by a fetch whose reply got lost on the way. Entries are delivered in
-- order, so they lie beyond the last one that came.
--
-- KEYS  1 {Q}:workers  zset    read: the registration must still stand
--       2 {Q}:jobs     stream  entries whose body is gone are acknowledged
-- ARGV  1 this worker's registration
--       2 the consumer group
--       3 the last entry that came by a fetch
--       4 the most to return
--       5... entries that this worker took over, and so has in hand
-- Returns triples, as recover.lua: entry, earlier deliveries, fields; or an integer, 0, when the registration is gone.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local held = {}
for i = 5, #ARGV do held[ARGV[i]] = true end
local found, limit = {}, tonumber(ARGV[4])
local pending = redis.pcall('XPENDING', KEYS[2], ARGV[2], '(' .. ARGV[3], '+', limit + #ARGV - 4, ARGV[1])
if pending.err then return found end
for _, each in ipairs(pending) do
  local entry = each[1]
  if not held[entry] and #found < 3 * limit then
    local body = redis.call('XRANGE', KEYS[2], entry, entry)[1]
    if body then
      found[#found + 1] = entry
      found[#found + 1] = math.max(0, each[4] - 1) -- the delivery that got lost was no start
      found[#found + 1] = body[2]
    else
      redis.call('XACK', KEYS[2], ARGV[2], entry)
    end
  end
end
return found
