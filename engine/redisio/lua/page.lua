-- List jobs that have an entry, oldest first; changes nothing.
--
-- KEYS  1 {Q}:jobs  stream
-- ARGV  1 the consumer group
--       2 the consumer that holds what was given back
--       3 the entry after which to begin; "" for the first
--       4 the most to return
--       5 which: "queued", "running", or "" for both
--       6 the bytes of entries after which to return no more; at least one is returned
-- Returns a list of {entry, fields, consumer or "", deliveries}, and the entry after which to go on, "" at the end.
local rows, limit, which, most_bytes = {}, tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local start, seen, looked, read_bytes, found_bytes, count = '-', '', 0, 0, 0, 8
if ARGV[3] ~= '' then start = '(' .. ARGV[3] end
-- At most 10,000 entries a call, and of those that do not fit four times the bytes: they are read, but do not travel. A
-- page may come short, and its cursor goes on.
while looked < 10000 and read_bytes < 4 * most_bytes do
  local block = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', count)
  if #block == 0 then return {rows, ''} end
  local holders = {}
  -- Beside the block's own, entries may be pending whose body somebody deleted.
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], block[1][1], block[#block][1], #block + 1000)
  if not pending.err then
    for _, held in ipairs(pending) do
      if held[2] ~= ARGV[2] then holders[held[1]] = held end
    end
  end
  local block_bytes = 0
  for _, found in ipairs(block) do
    local held, size_bytes = holders[found[1]], 0
    for _, part in ipairs(found[2]) do size_bytes = size_bytes + #part end
    seen, block_bytes = found[1], block_bytes + size_bytes
    if which == '' or (which == 'running') == (held ~= nil) then
      rows[#rows + 1] = {seen, found[2], held and held[2] or '', held and held[4] or 0}
      found_bytes = found_bytes + size_bytes
      if #rows == limit or found_bytes >= most_bytes then return {rows, seen} end
    end
  end
  start, looked, read_bytes = '(' .. seen, looked + #block, read_bytes + block_bytes
  -- The next block is as large as those like this one may be, and grows slowly: nobody knows entries before reading them.
  local fitting = math.floor((most_bytes - found_bytes) * #block / math.max(1, block_bytes))
  count = math.max(1, math.min(2 * count, 256, fitting, 10000 - looked))
end
return {rows, seen}
