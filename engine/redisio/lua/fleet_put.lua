-- Publish what a worker says of itself, and drop a few reports whose time has long been over.
--
-- KEYS  1 fleet  hash  worker -> 8 bytes of expiry in milliseconds, big-endian, and its report
-- ARGV  1 the worker
--       2 milliseconds that the report is good for
--       3 the report; empty to take it back
--       4 milliseconds for which a report is kept that nobody took back when its time was over
-- Returns 1.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], struct.pack('>I8', now + ARGV[2]) .. ARGV[3])
end
-- A sample: each worker comes by every few seconds, so all are looked at soon, and none reads the whole fleet.
local some = redis.call('HRANDFIELD', KEYS[1], 10, 'WITHVALUES')
for i = 1, #some, 2 do
  if #some[i + 1] < 8 or struct.unpack('>I8', some[i + 1]) < now - ARGV[4] then redis.call('HDEL', KEYS[1], some[i]) end
end
return 1
