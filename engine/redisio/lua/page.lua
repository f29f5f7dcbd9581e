-- List jobs that have an entry, oldest first; changes nothing.
--
-- KEYS  1 {Q}:jobs  stream
-- ARGV  1 the consumer group
--       2 the consumer that holds what was given back
--       3 the entry after which to begin; "" for the first
--       4 the most to return
--       5 which: "queued", "running", or "" for both
-- Returns a list of {entry, fields, consumer or "", deliveries}, and the entry after which to go on, "" at the end.
local rows, limit, which = {}, tonumber(ARGV[4]), ARGV[5]
local start, seen = '-', ''
if ARGV[3] ~= '' then start = '(' .. ARGV[3] end
for _ = 1, 20 do -- at most 10,000 entries a call: a page may come short, and its cursor goes on
  local block = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 500)
  if #block == 0 then return {rows, ''} end
  local holders = {}
  -- Beside the block's own, entries may be pending whose body somebody deleted.
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], block[1][1], block[#block][1], #block + 1000)
  if not pending.err then
    for _, held in ipairs(pending) do
      if held[2] ~= ARGV[2] then holders[held[1]] = held end
    end
  end
  for _, found in ipairs(block) do
    local held = holders[found[1]]
    seen = found[1]
    if which == '' or (which == 'running') == (held ~= nil) then
      rows[#rows + 1] = {seen, found[2], held and held[2] or '', held and held[4] or 0}
      if #rows == limit then return {rows, seen} end
    end
  end
  start = '(' .. seen
end
return {rows, seen}
