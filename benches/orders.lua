-- Sends orders with wrk, each under a key of its own; one request in `retry_every` repeats
-- an order that was sent before. The responses are counted and printed as one line of JSON.
--
--   wrk -s benches/orders.lua http://127.0.0.1:8000 -- RUN RETRY_EVERY

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  run = arguments[1]
  retry_every = tonumber(arguments[2])
  asked, orders, retries = 0, 0, 0
  created, replayed, refused, first_refusal = 0, 0, 0, ""
end

-- The order is a function of its number, so a retry needs no memory.
local function order(n)
  local body = string.format(
    '{"customer":"customer-%05d","items":[{"product":"product-%03d","quantity":%d,' ..
    '"unit_price":1500}],"address":{"name":"Mia","street":"1 Market Street",' ..
    '"city":"Boston","postal_code":"02108","country":"US"},"method":' ..
    '{"token":"tok_%05d","brand":"Visa","last_four":"0042"}}',
    n % 23570, n * 7919 % 500, n % 3 + 1, n % 23570)
  return string.format(
    "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" ..
    "Idempotency-Key: %s-%d-%d\r\nContent-Length: %d\r\n\r\n%s",
    run, number, n, #body, body)
end

function request()
  asked = asked + 1
  if asked % retry_every == 0 then
    retries = retries + 1
    -- Sometimes an order whose first response has not arrived yet.
    return order(math.random(math.max(1, orders - 200), orders))
  end
  orders = orders + 1
  return order(orders)
end

function response(status, headers, body)
  if status ~= 201 then
    refused = refused + 1
    if refused == 1 then first_refusal = status .. " " .. body end
  elseif headers["idempotency-replayed"] == "true" then
    replayed = replayed + 1
  else
    created = created + 1
  end
end

local function sum(name)
  local total = 0
  for _, thread in ipairs(threads) do total = total + thread:get(name) end
  return total
end

function done(summary, latency)
  local failed = summary.errors
  local refusal = ""
  for _, thread in ipairs(threads) do
    if refusal == "" then refusal = thread:get("first_refusal") end
  end
  io.write(string.format(
    'counted {"seconds":%.3f,"p50":%.6f,"p99":%.6f,"longest":%.6f,"orders":%d,' ..
    '"retries":%d,"created":%d,"replayed":%d,"refused":%d,"unconnected":%d,' ..
    '"broken":%d,"late":%d,"first_refusal":%q}\n',
    summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    latency.max / 1e6, sum("orders"), sum("retries"), sum("created"), sum("replayed"),
    sum("refused"), failed.connect, failed.read + failed.write, failed.timeout, refusal))
end
