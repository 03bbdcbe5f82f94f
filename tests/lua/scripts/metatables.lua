-- Metatables: operators, inheritance, proxies, and every event that calls back.
local scale = ...

local Vector = {}
Vector.__index = Vector
function Vector.new(x, y) return setmetatable({ x = x, y = y }, Vector) end
function Vector.__add(a, b) return Vector.new(a.x + b.x, a.y + b.y) end
function Vector.__sub(a, b) return Vector.new(a.x - b.x, a.y - b.y) end
function Vector.__mul(a, b) return type(b) == "number" and Vector.new(a.x * b, a.y * b) or a.x * b.x + a.y * b.y end
function Vector.__unm(a) return Vector.new(-a.x, -a.y) end
function Vector.__eq(a, b) return a.x == b.x and a.y == b.y end
function Vector.__lt(a, b) return a * a < b * b end
function Vector.__le(a, b) return a * a <= b * b end
function Vector.__len(a) return 2 end
function Vector.__concat(a, b) return tostring(a) .. "~" .. tostring(b) end
function Vector.__call(a, name) return a[name] end
function Vector.__tostring(a) return "(" .. a.x .. "," .. a.y .. ")" end
function Vector.__idiv(a, n) return Vector.new(a.x // n, a.y // n) end
function Vector.__band(a, b) return a.x & b.x end
function Vector.__shl(a, n) return a.x << n end
function Vector.__bnot(a) return ~a.x end
local p, q = Vector.new(3, 4), Vector.new(1, 2)
print(tostring(p + q), tostring(p - q), p * q, tostring(p * 2), tostring(-p), p == Vector.new(3, 4), p ~= q)
print(p < q, p <= q, p > q, #p, p .. q, p .. "s", "s" .. p, p("y"), tostring(p // 2), p & q, p << 2, ~p)

local place = Vector.new(0, 0)
for i = 1, 4000 * scale do place = place + Vector.new(i, 1) end
print(tostring(place))

-- Inheritance, three classes deep, with a call of the method above.
local function class(parent)
  local c = setmetatable({}, { __index = parent })
  c.__index = c
  return c
end
local Animal = class()
function Animal.new(kind, name) return setmetatable({ name = name }, kind) end
function Animal:speak() return self.name .. " makes " .. self:noise() end
function Animal:noise() return "nothing" end
local Dog = class(Animal)
function Dog:noise() return "woof" end
local Puppy = class(Dog)
function Puppy:speak() return Dog.speak(self):upper() end
for _, kind in ipairs { Animal, Dog, Puppy } do io.write(Animal.new(kind, "it"):speak(), "; ") end
print()

local log = {}
local proxy = setmetatable({}, {
  __index = function(_, k) log[#log + 1] = "get " .. tostring(k); return k end,
  __newindex = function(t, k, v) log[#log + 1] = "set " .. tostring(k); rawset(t, k, v) end,
  __pairs = function(t) return function(_, k) if not k then return 1, "one" end end, t, nil end,
  __name = "Proxy", __metatable = "locked",
})
proxy.a = proxy.b; proxy.a = 2
for k, v in pairs(proxy) do log[#log + 1] = k .. v end
print(table.concat(log, ", "), proxy.a, rawget(proxy, "zzz"), getmetatable(proxy), pcall(setmetatable, proxy, {}))
print((tostring(proxy):gsub("0x%x+", "ADDRESS")))
print(select(2, pcall(function() return proxy + 1 end)))

local fibonacci = setmetatable({ 1, 1 }, { __index = function(t, n) local v = t[n - 1] + t[n - 2]; rawset(t, n, v); return v end })
print(fibonacci[80], #fibonacci)
local default = setmetatable({}, { __index = string })
print(default.format("%03d", 7), pcall(function() return default:nothing() end))
local chain = {}
for i = 1, 50 do chain = setmetatable({}, { __index = chain }) ; if i == 1 then getmetatable(chain).__index = { deep = "found" } end end
print(chain.deep)
local loop = {}
setmetatable(loop, { __index = loop, __newindex = loop })
print(pcall(function() return loop.x end))
