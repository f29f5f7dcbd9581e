-- One packed batch of events about some jobs, byte for byte what pack_jobs in jobs/events.py makes.
--
-- Only a script knows which jobs ended by it, so the caller packs the pieces and the header of the list is made here:
-- msgpack's array of up to 15 members, or of up to 65,535.
local function packed_jobs(head, ids, tail)
  local n = #ids
  local header = n <= 15 and string.char(0x90 + n) or string.char(0xdc, math.floor(n / 256), n % 256)
  return head .. header .. table.concat(ids) .. tail
end
