-- Count one queue; changes nothing.
--
-- KEYS  1 {Q}:jobs     stream
--       2 {Q}:delayed  zset
--       3 {Q}:dead     zset
--       4 {Q}:workers  zset
--       5 {Q}:meta     hash    fields delayed (jobs delayed at submission), moved (entries that are no new job) and paused
-- ARGV  1 the consumer group
--       2 the consumer that holds what was given back
--       3 milliseconds that dead letters are kept
-- Returns delayed, queued, running, dead, age of the oldest queued job in milliseconds (-1 when there is none),
-- registrations whose lease has not ended, jobs ever submitted (0 before Redis 7, which counts no entries), 1 while
-- the queue is paused, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local length = redis.call('XLEN', KEYS[1])
local running, delivered, oldest = 0, nil, nil
local summary = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if not summary.err then
  running = summary[1]
  for _, consumer in ipairs(summary[4] or {}) do
    if consumer[1] == ARGV[2] then
      running = running - consumer[2]
      oldest = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])[1][1]
    end
  end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    if group.name == ARGV[1] then delivered = group['last-delivered-id'] end
  end
end
if not oldest then
  -- Given-back entries were delivered before, so they are older than any that still waits.
  local first = redis.call('XRANGE', KEYS[1], delivered and '(' .. delivered or '-', '+', 'COUNT', 1)[1]
  oldest = first and first[1]
end
local submitted = 0
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
for i = 1, stream.err and 0 or #stream, 2 do
  if stream[i] == 'entries-added' then
    local counts = redis.call('HMGET', KEYS[5], 'delayed', 'moved')
    submitted = stream[i + 1] + (counts[1] or 0) - (counts[2] or 0)
  end
end
local age = -1
if oldest then age = math.max(0, now - string.match(oldest, '^%d+')) end
return {
  redis.call('ZCARD', KEYS[2]), math.max(0, length - running), running,
  redis.call('ZCOUNT', KEYS[3], string.format('%.0f', now - ARGV[3]), '+inf'), age,
  redis.call('ZCOUNT', KEYS[4], string.format('(%.0f', now), '+inf'),
  submitted, redis.call('HEXISTS', KEYS[5], 'paused'),
}
