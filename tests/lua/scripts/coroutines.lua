-- Coroutines: generators, pipelines, a scheduler, errors inside, yields across pcall and metamethods.
local scale = ...

local function numbers(n)
  return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end)
end
local sum = 0
for i in numbers(3000 * scale) do sum = sum + i end
print("generator", sum)

-- The primes, each filter a coroutine of its own.
local function filter(p, source)
  return coroutine.wrap(function()
    for n in source do if n % p ~= 0 then coroutine.yield(n) end end
  end)
end
local primes, source = {}, coroutine.wrap(function() for n = 2, math.huge do coroutine.yield(n) end end)
for i = 1, 25 do
  primes[i] = source()
  source = filter(primes[i], source)
end
print("sieve", table.concat(primes, " "))

local log = {}
local function task(name, turns)
  return coroutine.create(function(first)
    local got = first
    for turn = 1, turns do
      log[#log + 1] = name .. turn .. ":" .. tostring(got)
      got = coroutine.yield(turn)
    end
    return name .. " done"
  end)
end
local tasks = { task("a", 2), task("b", 4), task("c", 3) }
local round = 0
while #tasks > 0 do
  round = round + 1
  for i = #tasks, 1, -1 do
    local ok, value = coroutine.resume(tasks[i], round)
    assert(ok, value)
    if coroutine.status(tasks[i]) == "dead" then
      log[#log + 1] = value
      table.remove(tasks, i)
    end
  end
end
print("scheduler", table.concat(log, " "))

local co = coroutine.create(function() coroutine.yield(1); error("inside") end)
print("error", coroutine.resume(co))
print("error", coroutine.resume(co))
print("error", coroutine.resume(co))

co = coroutine.wrap(function()
  local ok, message = pcall(function()
    local got = coroutine.yield("before")
    error("got " .. got, 0)
  end)
  coroutine.yield(message)
  local proxy = setmetatable({}, { __add = function(_, n) return coroutine.yield(n) end })
  return "sum " .. (proxy + 5)
end)
print("across pcall", co(), co("that"), co(), co(7))

local function recurse(depth)
  if depth == 0 then return 0 end
  return 1 + coroutine.wrap(recurse)(depth - 1)
end
print("nested", recurse(60))
print("isyieldable", coroutine.isyieldable(), coroutine.wrap(coroutine.isyieldable)())

local closed = {}
co = coroutine.create(function()
  local guard <close> = setmetatable({}, { __close = function() closed[#closed + 1] = "closed" end })
  coroutine.yield()
end)
coroutine.resume(co)
print("close", coroutine.close(co), closed[1], coroutine.status(co))
