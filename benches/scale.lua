-- The load of `scale.sh`, for wrk:  wrk … -s scale.lua URL -- METHOD TOKEN FILE [BODY]
-- FILE has one path a line; requests take them at random.

function init(args)
  method, body = args[1], args[4]
  headers = { ["Authorization"] = "Bearer " .. args[2], ["Content-Type"] = "application/json" }
  paths = {}
  for line in io.lines(args[3]) do paths[#paths + 1] = line end
  math.randomseed(7)
end

function request()
  return wrk.format(method, paths[math.random(#paths)], headers, body)
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT %.0f %.3f %.3f %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, errors.status + errors.connect + errors.read + errors.timeout))
end
