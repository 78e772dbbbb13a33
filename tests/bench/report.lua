-- wrk's account as one line of JSON:  wrk ... -s report.lua URL -- [METHOD BODY_OCTETS] [close]

function init(args)
  if args[1] and args[1] ~= "close" then
    wrk.method = args[1]
    wrk.body = string.rep("u", tonumber(args[2]))
  end
  if args[#args] == "close" then
    wrk.headers["Connection"] = "close"
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "octets": %.0f, "seconds": %.6f, "failed": %d, "p50_us": %.0f, "p99_us": %.0f, "p999_us": %.0f}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
