-- What an interpreter does all day: calls, loops over integers and floats, tables, strings, closures, methods.
-- The first line comes at once; the argument says how often the rest is done.
print("begun")
local scale = ...

local function fibonacci(n) if n < 2 then return n end return fibonacci(n - 1) + fibonacci(n - 2) end

local function sieve(limit)
  local composite, primes = {}, 0
  for i = 2, limit do
    if not composite[i] then
      primes = primes + 1
      for j = i * i, limit, i do composite[j] = true end
    end
  end
  return primes
end

local function matrix(n)
  local function fill(f)
    local rows = {}
    for i = 1, n do
      local row = {}
      for j = 1, n do row[j] = f(i, j) end
      rows[i] = row
    end
    return rows
  end
  local a = fill(function(i, j) return (i + j) % 7 + 0.5 end)
  local b = fill(function(i, j) return (i * j) % 5 - 0.25 end)
  local c = fill(function(i, j)
    local sum = 0.0
    for k = 1, n do sum = sum + a[i][k] * b[k][j] end
    return sum
  end)
  return c[1][n] + c[n][1]
end

local function words(n)
  local count, pieces = {}, {}
  for i = 1, n do
    local word = ("word%d"):format(i * 7919 % 1000)
    count[word] = (count[word] or 0) + 1
    pieces[#pieces + 1] = word:upper()
  end
  local text = table.concat(pieces, " ")
  local found = 0
  for word in text:gmatch("%a+%d+") do found = found + #word end
  local names = {}
  for name in pairs(count) do names[#names + 1] = name end
  table.sort(names, function(a, b) return a > b end)
  return found, names[1], #text:gsub("WORD", "w")
end

local function counters(n)
  local made = {}
  for i = 1, 100 do
    local total = i
    made[i] = function(by) total = total + by return total end
  end
  local sum = 0
  for i = 1, n do sum = sum + made[i % 100 + 1](i) end
  return sum
end

local Point = {}
Point.__index = Point
Point.__add = function(a, b) return setmetatable({ x = a.x + b.x, y = a.y + b.y }, Point) end
function Point:length() return self.x * self.x + self.y * self.y end

local function points(n)
  local at, step = setmetatable({ x = 0, y = 0 }, Point), setmetatable({ x = 1, y = 2 }, Point)
  local sum = 0
  for _ = 1, n do
    at = at + step
    sum = (sum + at:length()) % 1000003
  end
  return sum
end

for turn = 1, scale do
  print(turn, fibonacci(24), sieve(100000), matrix(60), counters(200000), points(100000))
  print(words(20000))
end
