-- Sorting: the comparison is called back from C, may fail, and may be inconsistent.
local scale = ...

local seed = 42
local function random(n) seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n end

local numbers = {}
for i = 1, 2000 * scale do numbers[i] = random(1000000) end
local function sorted(compare)
  local copy = table.move(numbers, 1, #numbers, 1, {})
  local calls = 0
  table.sort(copy, compare and function(a, b) calls = calls + 1; return compare(a, b) end)
  for i = 2, #copy do assert(not (compare or function(a, b) return a < b end)(copy[i], copy[i - 1])) end
  return copy[1], copy[#copy // 2], copy[#copy], calls > 0
end
print("plain", sorted())
print("down", sorted(function(a, b) return a > b end))
print("by digits", sorted(function(a, b) return a % 1000 < b % 1000 end))
print("by string", select("#", sorted(function(a, b) return tostring(a) < tostring(b) end)))

local words = {}
for word in ("the quick brown fox jumps over the lazy dog and runs away from the bear"):gmatch("%a+") do
  words[#words + 1] = { word = word, length = #word, place = #words }
end
table.sort(words, function(a, b)
  if a.length ~= b.length then return a.length < b.length end
  if a.word ~= b.word then return a.word < b.word end
  return a.place < b.place
end)
for _, w in ipairs(words) do io.write(w.word, w.place, " ") end
print()
print("fails", pcall(table.sort, { 3, 1, 2, 5, 4 }, function(a, b) if a == 5 or b == 5 then error("five", 0) end return a < b end))
print("mixed", pcall(table.sort, { 1, "x", 2 }))
print("inconsistent", (pcall(table.sort, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, function() return true end)))
print("in a coroutine", coroutine.wrap(function() return pcall(table.sort, { 3, 2, 1 }, function() coroutine.yield() end) end)())

-- A heap, an insertion sort and a merge sort, that must agree with it.
local function merge_sort(list)
  if #list < 2 then return list end
  local half = #list // 2
  local a = merge_sort(table.move(list, 1, half, 1, {}))
  local b = merge_sort(table.move(list, half + 1, #list, 1, {}))
  local out, i, j = {}, 1, 1
  while a[i] or b[j] do
    if not b[j] or a[i] and a[i] <= b[j] then out[#out + 1] = a[i]; i = i + 1
    else out[#out + 1] = b[j]; j = j + 1 end
  end
  return out
end
local merged = merge_sort(numbers)
table.sort(numbers)
print("merged", #merged, table.concat(merged, ",") == table.concat(numbers, ","))
