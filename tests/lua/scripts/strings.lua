-- Strings: format, patterns, gsub by string, table and function, pack, utf8, buffers that grow.
local scale = ...

print(("%5d|%-5d|%05d|%+d|%x|%X|%#o|%c"):format(42, 42, 42, 42, 255, 255, 8, 65))
print(("%e|%.3f|%g|%10.2f|%-10.1f|%a"):format(12345.678, 1 / 3, 1e20, 2.5, 2.5, 0.5))
print(("%q|%s|%10s|%-10s|%.2s|%%"):format('say "hi"\n\0', nil, "right", "left", "cut"))
print(("%q %q %q"):format(1 / 3, math.mininteger, 1e308 * 10))
print(tostring(1e15), tostring(1e100), 2 ^ 53, 10 // 3, 10 / 2, -7 // 2, -7 % 3, 7.5 // 2, 1e308 * 10, -1e308 * 10)

print(("key = value"):match("^(%w+)%s*=%s*(%w+)$"))
print(("THE (quick) fox"):find("%((%a+)%)"))
print(("hello world from Lua"):gsub("(%w+) (%w+)", "%2 %1"))
print(("$name is $age"):gsub("%$(%w+)", { name = "Lua", age = 30 }))
print(("4+5 = $return 4+5$"):gsub("%$(.-)%$", function(s) return load(s)() end))
print(("f(a(b)c)d"):match("%b()"), ("THE END"):gsub("%f[%a]%a", string.lower))
print(("  trim  "):match("^%s*(.-)%s*$") .. "|", ("x"):rep(3, "-"), ("abc"):reverse(), ("aBc"):upper(), #("\u{20AC}"))
for k, v in ("a=1, b=2, c=3"):gmatch("(%w+)=(%w+)") do io.write(k, v, ";") end
print(("abc"):byte(1, -1), ("abcdef"):sub(-3, -2), ("a,b,,c"):find(",", 1, true))
local function message(...) return select(2, pcall(...)) end
print(message(string.rep, "x", -1), message(string.format, "%d", 1.5), message(string.format, "%y", 1))
print(message(string.find, "a", "[a"), message(string.gsub, "a", "(a", "%2"), message(string.char, 256))

local packed = string.pack(">i4 <d z s1 I8", -2, 0.25, "zero", "counted", 1 << 40)
print(#packed, string.unpack(">i4 <d z s1 I8", packed))
print(utf8.char(72, 228, 8364, 128512), utf8.len("häß"), #utf8.char(128512))
for place, code in utf8.codes("aä€") do io.write(place, "=", code, " ") end
print(utf8.codepoint("€", 1), utf8.offset("aä€", 3), utf8.len("\xff"))

local parts, hash = {}, 0
for i = 1, 2000 * scale do
  local s = ("%d:%s:%g"):format(i, ("x"):rep(i % 7), i / 8)
  parts[#parts + 1] = s
  for j = 1, #s, 5 do hash = (hash * 31 + s:byte(j)) & 0xffffffff end
end
local all = table.concat(parts, ",")
local fields = 0
for number, xs in all:gmatch("(%d+):(x*)") do fields = fields + #number + #xs end
print(#all, hash, fields, select(2, all:gsub("x+", "y")), all:sub(-20))
print(tonumber("0x1p4"), tonumber("  12  "), tonumber("1e1"), tonumber("z", 36), tonumber("8", 8), tonumber("0x"), math.tointeger("8"))
