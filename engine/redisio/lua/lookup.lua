-- Find out where one job is; changes nothing.
--
-- KEYS  1 {Q}:jobs           stream
--       2 {Q}:delayed        zset
--       3 {Q}:bodies         hash
--       4 {Q}:index          hash
--       5 {Q}:meta           hash    delayed: the last number of a delayed job
--       6 {Q}:result:ID      string
--       7 {Q}:deadletter:ID  string
--       8 {Q}:results:HEAD   hash
-- ARGV  1 the job's id
--       2 the entry in that id; "" when it was delayed from the start
--       3 the consumer group
--       4 the consumer that holds what was given back
-- Returns one of: {"ended", record}, {"delayed" or "retrying", due, envelope}, {"queued", fields},
-- {"queued", fields, "", count} where it was given back, {"running", fields, consumer, count}, {"dead", letter},
-- {"none", last entry of the stream, last delayed number}.
local record = redis.call('GET', KEYS[6])
if not record and ARGV[2] ~= '' then record = redis.call('HGET', KEYS[8], string.sub(ARGV[2], -2)) end
if record then return {'ended', record} end

local place = redis.call('HGET', KEYS[4], ARGV[1])
local due = redis.call('ZSCORE', KEYS[2], ARGV[1])
if due then
  local body = redis.call('HGET', KEYS[3], ARGV[1]) or ''
  return {place and 'retrying' or 'delayed', string.format('%.0f', due), body}
end

local entry = place or ARGV[2]
if entry ~= '' and entry ~= 'later' then
  local found = redis.call('XRANGE', KEYS[1], entry, entry)
  if #found > 0 then
    local pending = redis.pcall('XPENDING', KEYS[1], ARGV[3], entry, entry, 1)
    if pending.err or #pending == 0 then return {'queued', found[1][2]} end
    if pending[1][2] == ARGV[4] then return {'queued', found[1][2], '', pending[1][4]} end
    return {'running', found[1][2], pending[1][2], pending[1][4]}
  end
end

local letter = redis.call('GET', KEYS[7])
if letter then return {'dead', letter} end

-- Nothing is kept of it: whether it ever was, only its number can tell.
local last = '0-0'
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
if not stream.err then
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then last = stream[i + 1] end
  end
end
return {'none', last, tonumber(redis.call('HGET', KEYS[5], 'delayed') or 0)}
