-- Hand entries back that were never started, or were stopped, for any worker's next sweep.
--
-- KEYS  1 {Q}:workers  zset    read: the registration must still stand
--       2 {Q}:jobs     stream  entries change their consumer
--       3 {Q}:control  channel "returned": a worker with room may sweep at once
-- ARGV  1 the registration under which the entries were delivered
--       2 the consumer group
--       3 the consumer that holds what was given back
--       4 the delivery count of these entries from now on: this delivery is taken back, or counted as an interruption
--       5... the entries
-- Returns how many were handed back, or -1 when the registration is gone and nothing was done.
redis.call('ZREM', KEYS[1], '') -- a write that is allowed at maxmemory must come first
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return -1 end

-- XCLAIM takes from anybody: an entry that went back before may be with another worker by now.
local own = {}
for i = 5, #ARGV do
  local pending = redis.pcall('XPENDING', KEYS[2], ARGV[2], ARGV[i], ARGV[i], 1, ARGV[1])
  if pending.err then return 0 end -- the server was emptied: there is no group, and nothing to hand back
  if #pending > 0 then own[#own + 1] = ARGV[i] end
end
if #own == 0 then return 0 end
local claim = {'XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, unpack(own)}
claim[#claim + 1] = 'RETRYCOUNT'
claim[#claim + 1] = ARGV[4]
claim[#claim + 1] = 'JUSTID'
local count = #redis.call(unpack(claim))
if count > 0 then redis.pcall('PUBLISH', KEYS[3], 'returned') end -- a word that nobody may say is no reason to fail
return count
