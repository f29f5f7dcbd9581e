-- Move jobs that are due to the queue.
--
-- KEYS  1 {Q}:jobs     stream  one entry a job, fields m and i
--       2 {Q}:delayed  zset    job id -> due
--       3 {Q}:bodies   hash    job id -> envelope
--       4 {Q}:index    hash    job id -> its entry
--       5 {Q}:meta     hash    field moved: entries that are no new job, so that submissions can be counted
-- ARGV  1 the most to move
-- Returns how many were moved, and milliseconds until the next is due, -1 when there is none.
redis.call('ZREM', KEYS[2], '') -- a write that is allowed at maxmemory must come first: moving takes no more room
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
local moved = 0
for _, id in ipairs(ids) do
  local body = redis.call('HGET', KEYS[3], id)
  if body then
    local entry = redis.call('XADD', KEYS[1], '*', 'm', body, 'i', id)
    redis.call('HSET', KEYS[4], id, entry)
    redis.call('HDEL', KEYS[3], id)
    moved = moved + 1
  end
  redis.call('ZREM', KEYS[2], id)
end
if moved > 0 then redis.call('HINCRBY', KEYS[5], 'moved', moved) end
local next_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if #next_due == 0 then return {#ids, -1} end
return {#ids, math.max(0, next_due[2] - now)}
