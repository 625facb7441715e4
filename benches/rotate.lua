-- The load of `rotate.sh`, for wrk:  wrk … -s rotate.lua URL -- MODE TOKEN WHICH
--   seed    a new secret for every request; WHICH is a number that no round before it used
--   mixed   four reads of secrets that were seeded to one write, over a thousand paths a thread; WHICH is a file of paths

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  mode, which, count = args[1], args[3], 0
  paths = {}
  if mode == "mixed" then
    for path in io.lines(which) do paths[#paths + 1] = path end
  end
  headers = { ["Authorization"] = "Bearer " .. args[2], ["Content-Type"] = "application/json" }
  secret = '{"data":{"password":"' .. string.rep("s", 32) .. '","user":"app"}}'
  math.randomseed(number + 1)
end

function request()
  count = count + 1
  if mode == "seed" then
    return wrk.format("PUT", string.format("/v1/secrets/seed/%s-%d/%d", which, number, count), headers, secret)
  elseif count % 5 > 0 then
    return wrk.format("GET", "/v1/secrets/" .. paths[math.random(#paths)], headers)
  end
  return wrk.format("PUT", string.format("/v1/secrets/write/%d/%d", number, count % 1000), headers, secret)
end

-- One line: requests, seconds, p99 in milliseconds, answers that were no success, broken connections.
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT %d %.2f %.2f %d %d\n", summary.requests, summary.duration / 1e6,
    latency:percentile(99) / 1000, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
