-- The bytes of envelopes that a queue holds, in {Q}:meta; included by the scripts that end jobs.
--
-- Jobs that came by a plain XADD were never counted, and what is deleted by hand is never taken off: so the figure
-- never goes below 0, and is 0 again whenever the queue is empty. Those jobs have ended by now, and the rest of what is
-- written about them must not be left out because of this: a refusal is returned, not raised.
local function take_off(jobs, delayed, meta, bytes)
  if bytes == 0 then return nil end
  local left = redis.pcall('HINCRBY', meta, 'bytes', string.format('%.0f', -bytes))
  if type(left) == 'table' then return left end
  if left < 0 or (left > 0 and redis.call('XLEN', jobs) == 0 and redis.call('ZCARD', delayed) == 0) then
    redis.pcall('HSET', meta, 'bytes', 0)
  end
  return nil
end
