-- The bytes of envelopes that a queue holds, in {Q}:meta; included by the scripts that end jobs.
--
-- Jobs that came by a plain XADD were never counted, and what is deleted by hand is never taken off: so the figure
-- never goes below 0, and is 0 again whenever the queue is empty.
local function take_off(jobs, delayed, meta, bytes)
  if bytes == 0 then return end
  local left = redis.call('HINCRBY', meta, 'bytes', string.format('%.0f', -bytes))
  if left < 0 or (left > 0 and redis.call('XLEN', jobs) == 0 and redis.call('ZCARD', delayed) == 0) then
    redis.call('HSET', meta, 'bytes', 0)
  end
end
