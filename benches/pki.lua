-- The load of `pki.sh`, for wrk:  wrk … -s pki.lua URL -- PATH TYPE BODY TOKEN
-- The same POST again and again: the file BODY, of the media type TYPE. TOKEN may be empty.

function init(args)
  path, headers = args[1], { ["Content-Type"] = args[2] }
  local file = assert(io.open(args[3], "rb"))
  body = file:read("*a")
  file:close()
  if args[4] ~= "" then headers["Authorization"] = "Bearer " .. args[4] end
end

function request()
  return wrk.format("POST", path, headers, body)
end

-- One line for `pki.sh`: requests a second, p99 in milliseconds, answers that were no success, broken connections.
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT %.0f %.2f %d %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(99) / 1000, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
