; musttail by fastcc and C, with byval and variadic functions handed on, in constant stack.
@format = private constant [13 x i8] c"%ld %ld %ld\0A\00"

declare i32 @printf(ptr, ...)
declare i32 @vprintf(ptr, ptr)
declare void @llvm.va_start(ptr)
declare void @llvm.va_end(ptr)

define internal fastcc i64 @even(i64 %n, i64 %acc) {
  %z = icmp eq i64 %n, 0
  br i1 %z, label %end, label %more
end:
  ret i64 %acc
more:
  %m = sub i64 %n, 1
  %a = add i64 %acc, %n
  %r = musttail call fastcc i64 @odd(i64 %m, i64 %a)
  ret i64 %r
}
define internal fastcc i64 @odd(i64 %n, i64 %acc) {
  %z = icmp eq i64 %n, 0
  br i1 %z, label %end, label %more
end:
  %neg = sub i64 0, %acc
  ret i64 %neg
more:
  %m = sub i64 %n, 1
  %a = xor i64 %acc, %n
  %r = musttail call fastcc i64 @even(i64 %m, i64 %a)
  ret i64 %r
}
define i64 @sum(ptr byval({ i64, i64, i64 }) %s, i64 %n) {
  %z = icmp eq i64 %n, 0
  %x = load i64, ptr %s
  br i1 %z, label %end, label %more
end:
  ret i64 %x
more:
  %y = add i64 %x, %n
  store i64 %y, ptr %s
  %m = sub i64 %n, 1
  %r = musttail call i64 @sum(ptr byval({ i64, i64, i64 }) %s, i64 %m)
  ret i64 %r
}
define i32 @say(ptr %how, ...) {
  %list = alloca [3 x i64], align 16
  call void @llvm.va_start(ptr %list)
  %r = call i32 @vprintf(ptr %how, ptr %list)
  call void @llvm.va_end(ptr %list)
  ret i32 %r
}
define i32 @hand_on(ptr %how, ...) {
  %r = musttail call i32 (ptr, ...) @say(ptr %how, ...)
  ret i32 %r
}

define i32 @main() {
  %s = alloca { i64, i64, i64 }
  store i64 1000, ptr %s
  %a = call fastcc i64 @even(i64 200, i64 0)
  %b = call fastcc i64 @odd(i64 200, i64 0)
  %c = call i64 @sum(ptr byval({ i64, i64, i64 }) %s, i64 100)
  %d = call i32 (ptr, ...) @hand_on(ptr @format, i64 %a, i64 %b, i64 %c)
  ret i32 %d
}
