-- List jobs that wait for their time, those due first first; changes nothing.
--
-- KEYS  1 {Q}:delayed  zset
--       2 {Q}:bodies   hash
--       3 {Q}:index    hash  who is in it was tried before
-- ARGV  1 the job's id after which to begin, "" for the first
--       2 when that one was due
--       3 the most to return
--       4 which: "delayed", "retrying", or "" for both
--       5 the bytes of envelopes after which to return no more; at least one is returned
-- Returns a list of {id, due, envelope, "delayed" or "retrying"}, and id and due after which to go on, "" at the end.
local rows, limit, from, left_bytes = {}, tonumber(ARGV[3]), 0, tonumber(ARGV[5])
if ARGV[1] ~= '' then
  local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if due and tonumber(due) == tonumber(ARGV[2]) then
    from = redis.call('ZRANK', KEYS[1], ARGV[1]) + 1
  else
    from = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[2])
  end
end
local id, due = '', ''
for _ = 1, 20 do -- at most 10,000 members a call, and so many bytes: a page may come short, and its cursor goes on
  local block = redis.call('ZRANGE', KEYS[1], from, from + 499, 'WITHSCORES')
  if #block == 0 then return {rows, '', ''} end
  for i = 1, #block, 2 do
    id, due = block[i], block[i + 1]
    local state = 'delayed'
    if redis.call('HEXISTS', KEYS[3], id) == 1 then state = 'retrying' end
    if ARGV[4] == '' or ARGV[4] == state then
      local envelope = redis.call('HGET', KEYS[2], id) or ''
      rows[#rows + 1] = {id, due, envelope, state}
      left_bytes = left_bytes - #envelope
      if #rows == limit or left_bytes <= 0 then return {rows, id, due} end
    end
  end
  from = from + 500
end
return {rows, id, due}
