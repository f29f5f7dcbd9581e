-- Find out which of many jobs of a queue have yet to end; changes nothing.
--
-- KEYS  1 {Q}:jobs     stream
--       2 {Q}:delayed  zset
--       3 {Q}:index    hash
-- ARGV  for each job its id, and the entry in that id; "" when it was delayed from the start
-- Returns for each job 1, or 0 when it has ended or never was.
local alive = {}
for i = 1, #ARGV, 2 do
  local id, entry = ARGV[i], ARGV[i + 1]
  local found = entry ~= '' and #redis.call('XRANGE', KEYS[1], entry, entry) > 0
  if not found then  -- nearly all are where they were first
    local place = redis.call('HGET', KEYS[3], id)
    found = redis.call('ZSCORE', KEYS[2], id)
      or (place and place ~= 'later' and #redis.call('XRANGE', KEYS[1], place, place) > 0)
  end
  alive[#alive + 1] = found and 1 or 0
end
return alive
