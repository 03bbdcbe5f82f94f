; Thread-local variables of every model and linkage, aligned, addressed by constant offsets and by intrinsic.
@format = private constant [13 x i8] c"%d %d %d %d\0A\00"
@general = thread_local global i32 10
@dynamic = internal thread_local(localdynamic) global [4 x i32] [i32 1, i32 2, i32 3, i32 4]
@initial = thread_local(initialexec) global i32 20, align 64
@exec = internal thread_local(localexec) global i32 0
@weak = weak thread_local global i32 30

declare i32 @printf(ptr, ...)
declare nonnull ptr @llvm.threadlocal.address.p0(ptr nonnull)

define i32 @bump(i32 %by) {
  %p = call ptr @llvm.threadlocal.address.p0(ptr @general)
  %v = load i32, ptr %p
  %n = add i32 %v, %by
  store i32 %n, ptr %p
  %q = call ptr @llvm.threadlocal.address.p0(ptr @exec)
  store i32 %by, ptr %q
  ret i32 %n
}
define i32 @third() {
  %p = call ptr @llvm.threadlocal.address.p0(ptr @dynamic)
  %q = getelementptr i32, ptr %p, i64 2
  %v = load i32, ptr %q
  %n = mul i32 %v, 5
  store i32 %n, ptr %q
  ret i32 %n
}
define i32 @main() {
  %a = call i32 @bump(i32 5)
  %b = call i32 @third()
  %c = call i32 @third()
  %i = call ptr @llvm.threadlocal.address.p0(ptr @initial)
  %d = load i32, ptr %i
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c, i32 %d)
  %address = ptrtoint ptr %i to i64
  %off = and i64 %address, 63
  %e = trunc i64 %off to i32
  %wp = call ptr @llvm.threadlocal.address.p0(ptr @weak)
  %w = load i32, ptr %wp
  %xp = call ptr @llvm.threadlocal.address.p0(ptr @exec)
  %x = load i32, ptr %xp
  %s = add i32 %w, %x
  %r = add i32 %s, %e
  ret i32 %r
}
