-- Loops: integers that wrap, floats, bits, goto, and a few kernels that do nothing else.
local scale = ...

local function fibonacci(n) if n < 2 then return n end return fibonacci(n - 1) + fibonacci(n - 2) end
print("fibonacci", fibonacci(18))

local sum = 0.0
for i = 1, 50000 * scale do sum = sum + 1.0 / (i * i) end
print("series", ("%.9f"):format(sum))

local sieve, primes = {}, 0
local limit = 10000 * scale
for i = 2, limit do sieve[i] = true end
for i = 2, limit do
  if sieve[i] then
    primes = primes + 1
    for j = i * i, limit, i do sieve[j] = false end
  end
end
print("primes", primes)

local hash = 0xcbf29ce484222325
for i = 1, 30000 * scale do hash = (hash ~ (i & 255)) * 0x100000001b3 end
print("hash", ("%016x"):format(hash), hash >> 60, hash << 3, ~hash, hash // 3, hash % 7)

for i = 3, 1, -1 do io.write(i, " ") end
for i = 1.0, 2.0, 0.25 do io.write(i, " ") end
for i = math.maxinteger - 1, math.maxinteger do io.write(i, " ") end
for i = 1, 0 do io.write("never") end
print(math.maxinteger + 1 == math.mininteger, math.mininteger // -1, math.ult(1, -1))

for i = 1, 5 do
  for j = 1, 5 do
    if j == 3 then goto continue end
    if i == 4 then goto done end
    io.write(i * j, " ")
    ::continue::
  end
end
::done:: print()

local function collatz(n) local steps = 0; while n ~= 1 do n = n % 2 == 0 and n // 2 or 3 * n + 1; steps = steps + 1 end return steps end
local longest, at = 0, 0
for n = 1, 1000 * scale do local s = collatz(n); if s > longest then longest, at = s, n end end
print("collatz", longest, at)

local function matrix(n, f) local m = {}; for i = 1, n do m[i] = {}; for j = 1, n do m[i][j] = f(i, j) end end return m end
local n = 16
local a, b = matrix(n, function(i, j) return i + j end), matrix(n, function(i, j) return i * j % 7 / 2 end)
local c = matrix(n, function(i, j) local s = 0; for k = 1, n do s = s + a[i][k] * b[k][j] end return s end)
print("matrix", c[1][1], c[n][n], c[3][7])

local function queens(n)
  local rows, ups, downs, found = {}, {}, {}, 0
  local function place(column)
    if column > n then found = found + 1; return end
    for row = 1, n do
      if not (rows[row] or ups[row + column] or downs[row - column]) then
        rows[row], ups[row + column], downs[row - column] = true, true, true
        place(column + 1)
        rows[row], ups[row + column], downs[row - column] = nil, nil, nil
      end
    end
  end
  place(1)
  return found
end
print("queens", queens(6))
print("math", math.floor(-3.5), math.ceil(-3.5), math.fmod(-7, 3), math.max(1, 2.5), math.sqrt(2), math.pi, math.exp(1), math.log(8, 2), math.type(1), math.type(1.0))
repeat local done = true until done
