-- End jobs that are done and still have their first entry: acknowledge, delete, and keep their result records.
--
-- KEYS  1 {Q}:workers         zset    read: the registration must still stand
--       2 {Q}:jobs            stream  entries are acknowledged and deleted
--       3 {Q}:results:        hash    what the keys of kept records begin with; see keys.py
--       4 {Q}:delayed         zset    read: whether the queue is empty
--       5 {Q}:meta            hash    bytes: shrinks
--       6 {Q}:events          stream  one packed batch of events, see jobs/events.py
--       7 {Q}:unique:         string  what unique keys begin with; freed where they still are these jobs'
--       8 {Q}:result:ID       string  read: what their own records' keys begin with, for jobs that ended otherwise before
-- ARGV  1 the registration under which the entries were delivered
--       2 the consumer group
--       3 milliseconds that results are kept
--       4 bytes of the envelopes that were counted when they were added
--       5 how many entries
--       6 how many batches of events are kept
--       7 the packed batch of these
--       8 what these jobs' ids begin with, when each has a unique key; "" when none has
--       9... the entries; then a unique key for each, where each has one; then a record for each, or one that all
--            share, or none where none is kept
-- Returns how many entries were acknowledged now, or -1 when the registration is gone and nothing was done.
-- A record may be empty, for none.
-- include counting
redis.call('ZREM', KEYS[1], '') -- a write that is allowed at maxmemory must come first, else HSET is refused there
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return -1 end

local count, ttl = tonumber(ARGV[5]), tonumber(ARGV[3])
local last = count + 8
local acknowledged = redis.call('XACK', KEYS[2], ARGV[2], unpack(ARGV, 9, last))
if acknowledged == 0 then return 0 end -- the same batch, sent again
redis.call('XDEL', KEYS[2], unpack(ARGV, 9, last))

-- Of a batch that is settled in part, nobody knows here which were counted: its share is near enough.
-- From here on each write is tried whatever became of the one before, and the first refusal is answered at the end:
-- sent again, the batch finds nothing left to acknowledge.
local refused = take_off(KEYS[2], KEYS[4], KEYS[5], math.floor(ARGV[4] * acknowledged / count))

local before_records = last
if ARGV[8] ~= '' then
  local keys, own = {}, {}
  for i = last + 1, last + count do keys[#keys + 1] = KEYS[7] .. ARGV[i] end
  for i, id in ipairs(redis.call('MGET', unpack(keys))) do
    if id == ARGV[8] .. ARGV[8 + i] then own[#own + 1] = keys[i] end
  end
  if #own > 0 then redis.call('DEL', unpack(own)) end
  before_records = last + count
end

-- Neighbours share a key: up to a hundred records in one write cost the server, and its journal, a fraction of what one
-- write for each does, and go together when their time is over.
local function keep_records(prefix, shared, only_new)
  local sub, groups, heads, head, group = string.sub, {}, {}, nil, nil
  local ahead = before_records - 8
  for i = 9, last do
    local entry, record = ARGV[i], shared or ARGV[i + ahead]
    if record ~= '' then
      local its_head = sub(entry, 1, -3)
      if its_head ~= head then -- mostly it is that of the one before
        head, group = its_head, groups[its_head]
        if not group then
          group = {}
          groups[head], heads[#heads + 1] = group, head
        end
      end
      local n = #group
      group[n + 1], group[n + 2] = sub(entry, -2), record
    end
  end
  for _, each in ipairs(heads) do
    local key, fields = prefix .. each, groups[each]
    for i = 1, only_new and #fields or 1, 2 do
      local kept
      if not only_new then
        kept = redis.pcall('HSET', key, unpack(fields))
      elseif redis.call('EXISTS', KEYS[8] .. each .. fields[i]) == 0 then
        kept = redis.pcall('HSETNX', key, fields[i], fields[i + 1])
      end
      if type(kept) == 'table' then refused = refused or kept end
    end
    local left = redis.pcall('PTTL', key)
    if type(left) == 'number' and left < ttl then redis.pcall('PEXPIRE', key, ARGV[3]) end -- a neighbour may stay for longer
  end
end

-- Where some had ended before, their records stand.
if #ARGV > before_records then
  keep_records(KEYS[3], #ARGV == before_records + 1 and ARGV[#ARGV], acknowledged < count)
end
redis.pcall('XADD', KEYS[6], 'MAXLEN', '~', ARGV[6], '*', 'e', ARGV[7])
return refused or acknowledged
