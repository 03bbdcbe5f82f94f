; Functions and variables of every linkage: linkonce, weak, common, available_externally, extern_weak, hidden, comdats.
$group = comdat any
$nodup = comdat nodeduplicate
@format = private unnamed_addr constant [16 x i8] c"%d %d %d %d %d\0A\00"
@common_one = common global i32 0
@weak_one = weak global i32 2
@weak_const = weak_odr constant i32 3
@once = linkonce global i32 4
@once_odr = linkonce_odr hidden global i32 5, comdat($group)
@protected_one = protected global i32 6
@missing = extern_weak global i32
@local_exec = internal unnamed_addr constant i32 7, comdat($nodup)
@copy_of_other = available_externally global ptr null
@nodup = internal global i32 8, comdat

declare i32 @printf(ptr, ...)
declare extern_weak i32 @missing_function(i32)
declare dso_local i32 @toupper(i32)

define linkonce i32 @f_once(i32 %x) {
  %v = load i32, ptr @once
  %r = add i32 %x, %v
  ret i32 %r
}
define linkonce_odr hidden i32 @f_once_odr(i32 %x) comdat($group) {
  %v = load i32, ptr @once_odr
  %r = mul i32 %x, %v
  ret i32 %r
}
define weak i32 @f_weak(i32 %x) {
  %v = load i32, ptr @weak_one
  store i32 %x, ptr @weak_one
  ret i32 %v
}
define weak_odr protected i32 @f_weak_odr(i32 %x) {
  %v = load i32, ptr @weak_const
  %w = load i32, ptr @protected_one
  %s = mul i32 %v, %w
  %r = add i32 %s, %x
  ret i32 %r
}
define available_externally i32 @abs(i32 %x) {
  %n = sub i32 0, %x
  %neg = icmp slt i32 %x, 0
  %r = select i1 %neg, i32 %n, i32 %x
  ret i32 %r
}
define private fastcc i32 @f_private(i32 %x) {
  %v = load i32, ptr @common_one
  %n = add i32 %v, %x
  store i32 %n, ptr @common_one
  %l = load i32, ptr @local_exec
  %m = load i32, ptr @nodup
  %lm = mul i32 %l, %m
  %r = add i32 %n, %lm
  ret i32 %r
}

define i32 @main() {
  %a = call i32 @f_once(i32 1)
  %b = call i32 @f_once_odr(i32 2)
  %c = call i32 @f_weak(i32 3)
  %d = call i32 @f_weak_odr(i32 4)
  %e = call fastcc i32 @f_private(i32 5)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c, i32 %d, i32 %e)
  %f = call i32 @abs(i32 -9)
  %g = call i32 @f_weak(i32 0)
  %h = call fastcc i32 @f_private(i32 6)
  %no = icmp eq ptr @missing, null
  %nof = icmp eq ptr @missing_function, null
  %i = zext i1 %no to i32
  %u = call i32 @toupper(i32 120)
  %both = and i1 %no, %nof
  call i32 (ptr, ...) @printf(ptr @format, i32 %f, i32 %g, i32 %h, i32 %i, i32 %u)
  %r = zext i1 %both to i32
  ret i32 %r
}
