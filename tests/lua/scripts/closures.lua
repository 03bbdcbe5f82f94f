-- Closures: variables that outlive their functions, shared between closures, and fresh in each turn of a loop.
local scale = ...

local function counter(step)
  local n = 0
  return function() n = n + step; return n end, function() return n end
end

local next_of, last_of = counter(3)
for _ = 1, 1000 * scale do next_of() end
print("counter", last_of())

local adders = {}
for i = 1, 10 do
  local sum = i
  adders[i] = function(x) sum = sum + x; return sum end
end
print("fresh", adders[1](10), adders[1](10), adders[10](1), adders[2](0))

-- Each call of a curried function closes over the one before.
local function curry(f, n)
  if n <= 1 then return f end
  return function(x)
    return curry(function(...) return f(x, ...) end, n - 1)
  end
end
print("curried", curry(function(a, b, c, d) return a * 1000 + b * 100 + c * 10 + d end, 4)(1)(2)(3)(4))

local function compose(...)
  local functions = table.pack(...)
  return function(x)
    for i = functions.n, 1, -1 do x = functions[i](x) end
    return x
  end
end
local twice = function(x) return x * 2 end
local plus = function(x) return x + 1 end
local total = 0
for i = 1, 2000 * scale do total = (total + compose(twice, plus, twice, plus)(i)) % 1000003 end
print("composed", total)

-- A fixed point, without a name for the function.
local function fix(f)
  return (function(x) return x(x) end)(function(x)
    return f(function(...) return x(x)(...) end)
  end)
end
local factorial = fix(function(self) return function(n) return n == 0 and 1 or n * self(n - 1) end end)
print("fixed point", factorial(20))

-- Varargs through tail calls.
local function count(n, ...)
  if n == 0 then return select("#", ...), ... end
  return count(n - 1, n, ...)
end
print("varargs", count(12))
local function down(n) if n == 0 then return "bottom" end return down(n - 1) end
print("tail calls", down(20000))
