-- wrk's requests: GET, or POST with a body; with a file of ids, each request takes one of them. Prints what the bench
-- reads, a figure a line; times are microseconds.

local paths = {}

function init(args)
    local body, file = args[1], args[2]
    if body ~= nil and body ~= "" then
        wrk.method = "POST"
        wrk.body = body
        wrk.headers["Content-Type"] = "application/json"
    end
    if file ~= nil and file ~= "" then
        for id in io.lines(file) do
            paths[#paths + 1] = wrk.format(nil, wrk.path .. "/" .. id)
        end
    else
        paths[1] = wrk.format()
    end
end

function request()
    return paths[math.random(#paths)]
end

function done(summary, latency, requests)
    local errors = summary.errors
    print(string.format("requests=%d\nseconds=%f\nerrors=%d\np50=%d\np99=%d\nmax=%d",
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99), latency.max))
end
