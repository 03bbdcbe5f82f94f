-- Tables and the collector: growth, holes, moves, weak tables, finalisers, both collectors.
local scale = ...

local list = {}
for i = 1, 5000 * scale do list[i] = i * i end
for i = 1, #list, 2 do list[i] = nil end
local left = 0
for _ in pairs(list) do left = left + 1 end
print("holes", left)

local map = {}
for i = 1, 3000 do map["key" .. i % 500] = (map["key" .. i % 500] or 0) + i end
local keys = {}
for k in pairs(map) do keys[#keys + 1] = k end
table.sort(keys)
print("map", #keys, keys[1], map[keys[1]], keys[#keys], map[keys[#keys]])
map[1], map[1.5], map[true], map[-0.0] = "int", "float", "boolean", "zero"
print("kinds", map[1.0], map[3 / 2], map[not false], map[0], rawlen({ 1, 2, 3 }), rawequal(map, map), next({}))
print("bad keys", select(2, pcall(rawset, {}, nil, 1)), select(2, pcall(rawset, {}, 0 / 0, 1)))

print("table", table.concat({ 1, 2.5, "x" }, "-"), table.unpack({ 1, 2, 3 }, 2), select(-1, 1, 2, 3))
local moved = table.move({ 1, 2, 3, 4, 5 }, 2, 5, 1)
print("moved", table.concat(moved, " "), table.concat(table.move({ 1, 2, 3 }, 1, 3, 2), " "))
local t = { "a", "b", "c" }
table.insert(t, 2, "x"); table.insert(t, "end")
print("inserted", table.concat(t, " "), table.remove(t, 1), table.remove(t), table.concat(t, " "))

-- A graph with cycles, dropped over and over.
local function ring(n)
  local first = { value = 0 }
  local last = first
  for i = 1, n do last.next = { value = i, back = last }; last = last.next end
  last.next = first
  return first
end
local sum = 0
for round = 1, 20 * scale do
  local node = ring(100)
  for _ = 1, 150 do node = node.next end
  sum = sum + node.value
end
print("rings", sum)

for _, mode in ipairs { "incremental", "generational" } do
  collectgarbage(mode)
  local weak = setmetatable({}, { __mode = "v" })
  local ephemeron = setmetatable({}, { __mode = "k" })
  local finalised = 0
  local strong = {}
  for i = 1, 300 * scale do
    local object = setmetatable({ i }, { __gc = function() finalised = finalised + 1 end })
    weak[i], ephemeron[object] = object, { object }
    if i % 100 == 0 then strong[#strong + 1] = object end
    local garbage = {}
    for j = 1, 20 do garbage[j] = tostring(j) .. i end
  end
  collectgarbage(); collectgarbage()
  local alive = 0
  for _ in pairs(weak) do alive = alive + 1 end
  for _ in pairs(ephemeron) do alive = alive + 1 end
  print(mode, alive, finalised, #strong, ephemeron[strong[1]][1] == strong[1])
end
print("memory", collectgarbage("count") < 20000 * scale)

-- A resurrected object is finalised once.
local saved
do local _ = setmetatable({ "back" }, { __gc = function(o) saved = o end }) end
collectgarbage()
print("resurrected", saved and saved[1]); saved = nil; collectgarbage()
print("once", saved)
