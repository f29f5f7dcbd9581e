-- List dead letters, those of the last to die first; changes nothing.
--
-- KEYS  1 {Q}:dead         zset
--       2 {Q}:deadletter:  string  what the letters' keys begin with; the job's id follows
-- ARGV  1 the job's id after which to begin, "" for the first
--       2 when that one died
--       3 the most to return
--       4 the bytes of letters after which to return no more; at least one is returned
-- Returns a flat list of ids and letters, and id and time of death after which to go on, "" at the end.
local letters, limit, from, left_bytes = {}, tonumber(ARGV[3]), 0, tonumber(ARGV[4])
if ARGV[1] ~= '' then
  local died = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if died and tonumber(died) == tonumber(ARGV[2]) then
    from = redis.call('ZREVRANK', KEYS[1], ARGV[1]) + 1
  else
    from = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf')
  end
end
local id, died = '', ''
for _ = 1, 20 do -- at most 10,000 members a call, and so many bytes: a page may come short, and its cursor goes on
  local block = redis.call('ZREVRANGE', KEYS[1], from, from + 499, 'WITHSCORES')
  if #block == 0 then return {letters, '', ''} end
  for i = 1, #block, 2 do
    id, died = block[i], block[i + 1]
    local letter = redis.call('GET', KEYS[2] .. id)
    if letter then -- else it expired before its place in the list was taken away
      letters[#letters + 1] = id
      letters[#letters + 1] = letter
      left_bytes = left_bytes - #letter
      if #letters == 2 * limit or left_bytes <= 0 then return {letters, id, died} end
    end
  end
  from = from + 500
end
return {letters, id, died}
