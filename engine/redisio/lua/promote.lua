-- Move jobs that are due to the queue, as far as it needs them.
--
-- KEYS  1 {Q}:jobs     stream  one entry a job, fields m and i
--       2 {Q}:delayed  zset    job id -> due
--       3 {Q}:bodies   hash    job id -> envelope
--       4 {Q}:index    hash    job id -> its entry
--       5 {Q}:meta     hash    field moved: entries that are no new job, so that submissions can be counted
-- ARGV  1 the most to move
--       2 jobs that may wait in the queue, up to which due ones are moved
--       3 the least to move, however many wait
--       4 the consumer group
--       5 the consumer that holds what was given back
-- Returns 1 when due jobs were held back for what waits in the queue, else 0; and milliseconds until the next is due,
-- -1 when there is none.
redis.call('ZREM', KEYS[2], '') -- a write that is allowed at maxmemory must come first: moving takes no more room
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if #first == 0 then return {0, -1} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(first[2]) > now then return {0, first[2] - now} end

-- What nobody has fetched, and what was given back.
local waiting = redis.call('XLEN', KEYS[1])
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[4])
if not pending.err then
  waiting = waiting - pending[1]
  for _, consumer in ipairs(pending[4] or {}) do
    if consumer[1] == ARGV[5] then waiting = waiting + consumer[2] end
  end
end
local most = tonumber(ARGV[1])
local room = math.min(most, math.max(tonumber(ARGV[3]), ARGV[2] - waiting))

if room > 0 then
  local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, room)
  local bodies, places = redis.call('HMGET', KEYS[3], unpack(ids)), {}
  for i, id in ipairs(ids) do
    if bodies[i] then
      places[#places + 1] = id
      places[#places + 1] = redis.call('XADD', KEYS[1], '*', 'm', bodies[i], 'i', id)
    end
  end
  if #places > 0 then
    redis.call('HSET', KEYS[4], unpack(places))
    redis.call('HINCRBY', KEYS[5], 'moved', #places / 2)
  end
  redis.call('HDEL', KEYS[3], unpack(ids))
  redis.call('ZREM', KEYS[2], unpack(ids))
end
local next_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if #next_due == 0 then return {0, -1} end
local wait = math.max(0, next_due[2] - now)
return {wait == 0 and room < most and 1 or 0, wait}
