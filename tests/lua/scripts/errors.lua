-- Errors: every one is a longjmp out of the interpreter.
local scale = ...

local caught = 0
for i = 1, 2000 * scale do
  local ok, value = pcall(error, i)
  if not ok then caught = caught + value end
end
print("caught", caught)
local function message(...) return select(2, pcall(...)) end
print(message(error, "with a place", 1), message(error, "without", 0), message(error, { code = 7 }).code, message(error))

local function deep(n) if n == 0 then error({ depth = "bottom" }) end return 1 + deep(n - 1) end
local ok, value = pcall(deep, 150)
print("deep", ok, value.depth)
print("overflow", pcall(function() local function f() return 1 + f() end return f() end))
print("C overflow", pcall(string.gsub, ("x"):rep(300), ("(x"):rep(40), ""))

for _, f in ipairs {
  function() return 1 + nil end, function() return #5 end, function() return {} .. "x" end,
  function() return nil .. "x" end, function() local t; return t.x.y end, function() return ({}).x.y end,
  function() return 1 < "2" end, function() return {} < {} end, function() undefined_function() end,
  function() return 1 // 0 end, function() return 1 % 0 end, function() return 1 | 1.5 end,
  function() return "a" | 1 end, function() for i = 1, 10, 0 do end end, function() return math.tointeger(2 ^ 70) .. "" end,
  function() string.rep("x", 1 << 62) end, function() setmetatable(1, {}) end, function() return ("x"):bad() end,
  function() return select(0) end, function() error(setmetatable({}, { __tostring = function() return "object" end })) end,
} do
  print(tostring(message(f)))
end

print(xpcall(function() error("handled") end, function(m) return "<" .. m .. ">" end))
print(xpcall(function() error("twice") end, function() error("again") end))
print(select(2, xpcall(deep, function(e) return (debug.traceback("trace"):gsub("\n.*", "")) end, 3)))
print((select(2, xpcall(function() local x = nil; x() end, debug.traceback)):gsub("%s+", " ")))

-- Nested, with errors that leave several levels at once, and to-be-closed variables on the way.
local log = {}
local function guard(name)
  return setmetatable({}, { __close = function(_, e) log[#log + 1] = name .. "(" .. tostring(e) .. ")" end })
end
local function level(n)
  local a <close> = guard("a" .. n)
  if n == 0 then error("out", 0) end
  local b <close> = guard("b" .. n)
  if n % 2 == 0 then return level(n - 1), 1 end
  local ok, e = pcall(level, n - 1)
  error(e .. n, 0)
end
print(pcall(level, 4))
print(table.concat(log, " "))
print(pcall(function() local x <close> = guard("in"); error("first", 0) end))
print(pcall(function() local x <close> = setmetatable({}, { __close = function() error("in close", 0) end }) end))

for _, source in ipairs { "x =", "for", "goto nowhere", "x = 'open", "\27bad", "local x <const> = 1; x = 2", "return 0x", "--[[", "break" } do
  print(select(2, load(source, "chunk", "t")))
end
print(type(load(function() return nil end)), message(load, 1))
local source, parts = { "return ", "1 + ", "2" }, 0
print(load(function() parts = parts + 1; return source[parts] end)())
local dumped = string.dump(function(a, b) return a * b + 1 end)
print(load(dumped, "dumped", "b")(6, 7), load(dumped, "dumped", "t"))
print(select(2, load(dumped:sub(1, 20), "cut", "b")))
