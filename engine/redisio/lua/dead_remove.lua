-- Forget dead letters, each only if it still is the one that was read.
--
-- KEYS  1 {Q}:dead         zset    loses the jobs
--       2 {Q}:deadletter:  string  what the letters' keys begin with; the job's id follows
-- ARGV  pairs of a job's id and the SHA-1 of its letter
-- Returns a list: 1 for each that was forgotten, 0 for each that is gone, or was edited, or died again meanwhile.
local forgotten = {}
for i = 1, #ARGV, 2 do
  local key = KEYS[2] .. ARGV[i]
  local letter = redis.call('GET', key)
  local same = letter and redis.sha1hex(letter) == ARGV[i + 1]
  if same then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
  forgotten[#forgotten + 1] = same and 1 or 0
end
return forgotten
