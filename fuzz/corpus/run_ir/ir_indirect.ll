; An indirect function, whose resolver reads a variable, used by call and by address.
@format = private constant [10 x i8] c"%d %d %d\0A\00"
@choice = internal global i32 1
@chosen = ifunc i32 (i32), ptr @resolve
@kept = global ptr null

declare i32 @printf(ptr, ...)

define internal i32 @plus(i32 %x) {
  %r = add i32 %x, 100
  ret i32 %r
}

define internal i32 @minus(i32 %x) {
  %r = sub i32 %x, 100
  ret i32 %r
}

define internal ptr @resolve() {
  %c = load i32, ptr @choice
  %zero = icmp eq i32 %c, 0
  %f = select i1 %zero, ptr @plus, ptr @minus
  ret ptr %f
}

define i32 @main() {
  store i32 0, ptr @choice
  %a = call i32 @chosen(i32 7)
  store ptr @chosen, ptr @kept
  %f = load ptr, ptr @kept
  %b = call i32 %f(i32 8)
  %same = icmp eq ptr %f, @chosen
  %c = zext i1 %same to i32
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c)
  ret i32 0
}
