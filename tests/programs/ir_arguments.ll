; Arguments that C does not write: by value with alignment, sret in the middle, nest, returned, i1, many of each kind.
@format = private constant [19 x i8] c"%d %ld %d %g %d %d\00"
@line = private constant [2 x i8] c"\0A\00"
%big = type { [5 x i64], i8 }

declare i32 @printf(ptr, ...)

define void @fill(ptr sret(%big) align 8 %out, i64 %x, i8 signext %c) {
  store i64 %x, ptr %out
  %p = getelementptr %big, ptr %out, i32 0, i32 0, i64 4
  %y = mul i64 %x, 3
  store i64 %y, ptr %p
  %q = getelementptr %big, ptr %out, i32 0, i32 1
  store i8 %c, ptr %q
  ret void
}
define i64 @read(i32 %i, ptr byval(%big) align 8 %b, i1 zeroext %neg, ptr byval(i16) %s) {
  %at = getelementptr i64, ptr %b, i32 %i
  %v = load i64, ptr %at
  store i64 0, ptr %at
  %h = load i16, ptr %s
  %w = sext i16 %h to i64
  %t = add i64 %v, %w
  %m = sub i64 0, %t
  %r = select i1 %neg, i64 %m, i64 %t
  ret i64 %r
}
define ptr @same(ptr returned %p, i32 %by) {
  %v = load i32, ptr %p
  %n = add i32 %v, %by
  store i32 %n, ptr %p
  ret ptr %p
}
define i32 @nested(ptr nest %n, i32 %x) {
  %v = load i32, ptr %n
  %r = mul i32 %v, %x
  ret i32 %r
}
define { i32, double, i8 } @three(i32 %x, double %d) {
  %a = insertvalue { i32, double, i8 } { i32 0, double 0.0, i8 77 }, i32 %x, 0
  %b = insertvalue { i32, double, i8 } %a, double %d, 1
  ret { i32, double, i8 } %b
}
define double @many(double %a, double %b, double %c, double %d, double %e, double %f, double %g, double %h, double %i, i32 %j, float %k) {
  %x = fadd double %a, %i
  %y = fpext float %k to double
  %z = fadd double %x, %y
  %s = sitofp i32 %j to double
  %r = fadd double %z, %s
  ret double %r
}
define i32 @main() {
  %b = alloca %big
  %s = alloca i16
  %n = alloca i32
  store i16 -7, ptr %s
  store i32 6, ptr %n
  call void @fill(ptr sret(%big) align 8 %b, i64 50, i8 signext -5)
  %r1 = call i64 @read(i32 4, ptr byval(%big) align 8 %b, i1 zeroext false, ptr byval(i16) %s)
  %r2 = call i64 @read(i32 0, ptr byval(%big) align 8 %b, i1 zeroext true, ptr byval(i16) %s)
  %r = add i64 %r1, %r2
  %p = call ptr @same(ptr %n, i32 4)
  %v = load i32, ptr %p
  %m = call i32 @nested(ptr nest %n, i32 9)
  %t = call { i32, double, i8 } @three(i32 3, double 0.125)
  %t0 = extractvalue { i32, double, i8 } %t, 0
  %t1 = extractvalue { i32, double, i8 } %t, 1
  %t2 = extractvalue { i32, double, i8 } %t, 2
  %w = zext i8 %t2 to i32
  %d = call double @many(double 1.0, double 0.0, double 0.0, double 0.0, double 0.0, double 0.0, double 0.0, double 0.0, double 2.0, i32 4, float 8.0)
  %dt = fadd double %d, %t1
  call i32 (ptr, ...) @printf(ptr @format, i32 %v, i64 %r, i32 %m, double %dt, i32 %t0, i32 %w)
  call i32 (ptr, ...) @printf(ptr @line)
  ret i32 0
}
