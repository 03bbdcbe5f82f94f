; Globals and functions without names, private names that clash with others, and names of every sort.
@0 = private constant [7 x i8] c"%d %d\0A\00"
@1 = internal global i32 5
@"name with spaces" = internal global i32 7
@"1" = global i32 11
@.str = private constant i32 13
@.str.1 = private constant i32 17
@str = global ptr @1
@"\01plain" = global i32 19

declare i32 @printf(ptr, ...)

define internal i32 @2(i32 %x) {
  %v = load i32, ptr @1
  %n = add i32 %v, %x
  store i32 %n, ptr @1
  ret i32 %n
}

define private i32 @3(i32 %x) {
  %v = load i32, ptr @"name with spaces"
  %w = load i32, ptr @"1"
  %s = add i32 %v, %w
  %r = call i32 @2(i32 %s)
  %m = mul i32 %r, %x
  ret i32 %m
}

define i32 @"2.1"(i32 %x) {
  %a = load i32, ptr @.str
  %b = load i32, ptr @.str.1
  %c = load i32, ptr @"\01plain"
  %ab = add i32 %a, %b
  %abc = add i32 %ab, %c
  %r = call i32 @3(i32 %x)
  %s = add i32 %abc, %r
  ret i32 %s
}

define i32 @main() {
  %a = call i32 @2(i32 1)
  %b = call i32 @3(i32 2)
  %i = call i32 (ptr, ...) @printf(ptr @0, i32 %a, i32 %b)
  %c = call i32 @"2.1"(i32 3)
  %p = load ptr, ptr @str
  %d = load i32, ptr %p
  %j = call i32 (ptr, ...) @printf(ptr @0, i32 %c, i32 %d)
  ret i32 0
}
