-- wrk: post each prepared body once. The file holds lines of "signature length\n" and then the body.
function init(args)
  local file = assert(io.open(args[1], "rb"))
  requests, sent = {}, 0
  while true do
    local head = file:read("*l")
    if not head then break end
    local signature, length = head:match("(%S+) (%d+)")
    requests[#requests + 1] = wrk.format("POST", "/webhook", {
      ["Content-Type"] = "application/json",
      ["X-Retell-Signature"] = signature,
      ["Host"] = "127.0.0.1",
    }, file:read(tonumber(length)))
  end
  file:close()
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

-- One line for the program that started wrk: latencies in microseconds.
function done(summary, latency, total)
  io.write(string.format("RESULT requests=%d duration_us=%d errors=%d p50_us=%d p99_us=%d max_us=%d\n",
    summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
