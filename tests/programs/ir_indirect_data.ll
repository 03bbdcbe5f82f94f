; Indirect functions in initialised data, constants, phis and thread-locals, under an alias, and by a tail call.
@format = private constant [16 x i8] c"%d %d %d %d %d\0A\00"
@line = private constant [4 x i8] c"%d\0A\00"
@asked = global i32 0
@table = constant [3 x ptr] [ptr @half, ptr @direct, ptr @other_name]
@nested = internal global { i32, <{ i8, ptr }>, [2 x i64] } { i32 3, <{ i8, ptr }> <{ i8 1, ptr @twice }>, [2 x i64] [i64 9, i64 ptrtoint (ptr @half to i64)] }
@own = thread_local global ptr @twice
@half = ifunc i32 (i32), ptr @choose_half
@twice = internal ifunc i32 (i32), ptr @choose_twice
@other_name = alias i32 (i32), ptr @half

declare i32 @printf(ptr, ...)
declare ptr @llvm.threadlocal.address.p0(ptr)

define internal i32 @halved(i32 %x) {
  %r = sdiv i32 %x, 2
  ret i32 %r
}
define internal i32 @doubled(i32 %x) {
  %r = mul i32 %x, 2
  ret i32 %r
}
define i32 @direct(i32 %x) {
  ret i32 %x
}
define internal ptr @choose_half() {
  store i32 1, ptr @asked
  ret ptr @halved
}
define internal ptr @choose_twice() {
  store i32 1, ptr @asked
  ret ptr @doubled
}

define internal i32 @tail(i32 %x) {
  %r = musttail call i32 @twice(i32 %x)
  ret i32 %r
}

define internal ptr @select_one(i32 %n) {
entry:
  switch i32 %n, label %end [ i32 1, label %end
                              i32 2, label %end
                              i32 3, label %three ]
three:
  br label %end
end:
  %p = phi ptr [ @half, %entry ], [ @half, %entry ], [ @half, %entry ], [ @twice, %three ]
  ret ptr %p
}

define i32 @main() {
  %a0 = getelementptr [3 x ptr], ptr @table, i64 0, i64 0
  %a1 = getelementptr [3 x ptr], ptr @table, i64 0, i64 1
  %a2 = getelementptr [3 x ptr], ptr @table, i64 0, i64 2
  %f0 = load volatile ptr, ptr %a0
  %f1 = load volatile ptr, ptr %a1
  %f2 = load volatile ptr, ptr %a2
  %r0 = call i32 %f0(i32 100)
  %r1 = call i32 %f1(i32 100)
  %r2 = call i32 %f2(i32 50)
  %same = icmp eq ptr %f0, %f2
  %r3 = zext i1 %same to i32
  %r4 = call i32 @other_name(i32 8)
  call i32 (ptr, ...) @printf(ptr @format, i32 %r0, i32 %r1, i32 %r2, i32 %r3, i32 %r4)
  %n1 = getelementptr { i32, <{ i8, ptr }>, [2 x i64] }, ptr @nested, i64 0, i32 1, i32 1
  %n2 = getelementptr { i32, <{ i8, ptr }>, [2 x i64] }, ptr @nested, i64 0, i32 2, i64 1
  %g1 = load volatile ptr, ptr %n1, align 1
  %g2 = load volatile i64, ptr %n2, align 8
  %s0 = call i32 %g1(i32 7)
  %w = sub i64 %g2, ptrtoint (ptr @half to i64)
  %s1 = trunc i64 %w to i32
  %t = call ptr @llvm.threadlocal.address.p0(ptr @own)
  %g3 = load ptr, ptr %t
  %s2 = call i32 %g3(i32 21)
  %s3 = call i32 @tail(i32 4)
  %n = load volatile i32, ptr @asked
  call i32 (ptr, ...) @printf(ptr @format, i32 %s0, i32 %s1, i32 %s2, i32 %s3, i32 %n)
  %p1 = call ptr @select_one(i32 2)
  %p2 = call ptr @select_one(i32 3)
  %q1 = call i32 %p1(i32 10)
  %q2 = call i32 %p2(i32 10)
  %pair = insertvalue { ptr, ptr } { ptr @half, ptr @twice }, ptr %p1, 1
  %first = extractvalue { ptr, ptr } %pair, 0
  %q3 = call i32 %first(i32 6)
  %sum = add i32 %q1, %q2
  %sum2 = add i32 %sum, %q3
  call i32 (ptr, ...) @printf(ptr @line, i32 %sum2)
  ret i32 0
}
