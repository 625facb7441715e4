-- The load of `load.sh`, for wrk:  wrk … -s load.lua URL -- MODE TOKEN RUN
--   read    one secret, again and again
--   write   a new secret for every request: no two requests meet on a path
--   issue   a P-256 certificate

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  mode, run, count = args[1], args[3], 0
  headers = { ["Authorization"] = "Bearer " .. args[2], ["Content-Type"] = "application/json" }
  secret = '{"data":{"password":"' .. string.rep("s", 32) .. '","user":"app"}}'
  certificate = '{"common_name":"load.example.com","ttl":"24h"}'
end

function request()
  count = count + 1
  if mode == "read" then
    return wrk.format("GET", "/v1/secrets/load/read", headers)
  elseif mode == "write" then
    return wrk.format("PUT", string.format("/v1/secrets/load/%s-%d/%d", run, number, count), headers, secret)
  end
  return wrk.format("POST", "/v1/pki/issue/load", headers, certificate)
end

-- One line for `load.sh`: requests a second, p99 in milliseconds, answers that were no success, broken connections.
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT %.0f %.2f %d %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(99) / 1000, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
