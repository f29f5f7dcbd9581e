-- Forget dead letters, those of which it matters only if they still are the ones that were read.
--
-- KEYS  1 {Q}:dead         zset    loses the jobs
--       2 {Q}:deadletter:  string  what the letters' keys begin with; the job's id follows
-- ARGV  pairs of a job's id and the SHA-1 of its letter, or "" for whatever it is by now
-- Returns a list: 1 for each that was forgotten, 0 for each that is gone, or was edited, or died again meanwhile.
local forgotten = {}
for i = 1, #ARGV, 2 do
  local key = KEYS[2] .. ARGV[i]
  local letter = redis.call('GET', key)
  local forget = letter and (ARGV[i + 1] == '' or redis.sha1hex(letter) == ARGV[i + 1])
  if forget then redis.call('DEL', key) end
  if forget or not letter then redis.call('ZREM', KEYS[1], ARGV[i]) end
  forgotten[#forgotten + 1] = forget and 1 or 0
end
return forgotten
