-- Whether a queue takes a batch; included by the scripts that add jobs.
--
-- keys   {jobs = stream, delayed = zset, meta = hash; its fields bytes, memory_* and drain_* are read and written, paused
--        is read}
-- group  the consumer group
-- bound  {length = jobs queued and delayed, bytes = of envelopes, memory = share of maxmemory}, texts; "0" for none
-- count, bytes  of the batch
-- Returns nil when it takes it, else the answer: {reason, depth, bytes held, milliseconds until it is drained, -1 where
-- that is not known, -2 while the queue is paused}.
local function refusal(keys, group, bound, count, bytes)
  local most, most_bytes, high = tonumber(bound.length), tonumber(bound.bytes), tonumber(bound.memory)
  local length = redis.call('XLEN', keys.jobs) + redis.call('ZCARD', keys.delayed)
  local known = redis.call('HMGET', keys.meta, 'bytes', 'memory_at', 'memory')
  local held = math.max(0, tonumber(known[1] or 0))
  if held > 0 and length == 0 then
    held = 0 -- whatever was deleted by hand: nothing is there
    redis.pcall('HDEL', keys.meta, 'bytes')
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local reason

  if most > 0 and length + count > most then
    -- Only now is it worth asking how many of the entries are running.
    local pending = redis.pcall('XPENDING', keys.jobs, group)
    if not pending.err then
      length = length - pending[1]
      for _, consumer in ipairs(pending[4] or {}) do
        if consumer[1] == 'returned' then length = length + consumer[2] end -- what was given back waits; see keys.py
      end
    end
    if length + count > most then reason = 'length' end
  end
  if not reason and most_bytes > 0 and held + bytes > most_bytes then reason = 'bytes' end
  if not reason and high > 0 then
    local share = tonumber(known[3] or 0)
    if math.abs(now - tonumber(known[2] or 0)) >= 250 then -- INFO costs more than adding a job does
      local info = redis.pcall('INFO', 'memory')
      share = 0
      if type(info) == 'string' then -- else this user may not ask
        local used = tonumber(string.match(info, 'used_memory:(%d+)'))
        local all = tonumber(string.match(info, '%smaxmemory:(%d+)'))
        if used and all and all > 0 then share = used / all end
      end
      -- A write that is allowed at maxmemory first, else the next is refused there, and INFO asked each time.
      if share >= high then redis.call('HDEL', keys.meta, '') end
      redis.pcall('HSET', keys.meta, 'memory_at', string.format('%.0f', now), 'memory', string.format('%.4f', share))
    end
    if share >= high then reason = 'memory' end
  end
  if not reason then return nil end

  -- How fast it drains: entries deleted between two refusals at least a second and at most a minute apart.
  local stream, added = redis.pcall('XINFO', 'STREAM', keys.jobs), nil
  for i = 1, stream.err and 0 or #stream, 2 do
    if stream[i] == 'entries-added' then added = stream[i + 1] end -- from Redis 7 on
  end
  local drain = -1
  if added then
    local gone = added - redis.call('XLEN', keys.jobs)
    local seen = redis.call('HMGET', keys.meta, 'drain_at', 'drained', 'drain_rate')
    local rate, age = tonumber(seen[3] or 0), now - tonumber(seen[1] or 0)
    if age < 0 or age >= 1000 then
      rate = 0
      if age >= 1000 and age <= 60000 then rate = math.max(0, gone - seen[2]) * 1000 / age end
      redis.call('HDEL', keys.meta, '')
      redis.pcall(
        'HSET', keys.meta, 'drain_at', string.format('%.0f', now), 'drained', string.format('%.0f', gone),
        'drain_rate', string.format('%.3f', rate)
      )
    end
    if rate > 0 then drain = math.floor(length * 1000 / rate) end
  end
  if redis.call('HEXISTS', keys.meta, 'paused') == 1 then drain = -2 end
  return {reason, length, held, drain}
end
