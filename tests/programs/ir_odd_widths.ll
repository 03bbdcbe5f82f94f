; Integers of odd widths: in memory, as arguments and results, divided, switched over, in vectors.
@format = private constant [18 x i8] c"%d %ld %d %d %ld\0A\00"
@narrow = global i5 -3
@wide = global i256 123456789012345678901234567890
@bits = global <9 x i1> <i1 1, i1 0, i1 1, i1 1, i1 0, i1 0, i1 1, i1 0, i1 1>

declare i32 @printf(ptr, ...)
declare i17 @llvm.ctpop.i17(i17)
declare { i33, i1 } @llvm.sadd.with.overflow.i33(i33, i33)
declare i24 @llvm.fshl.i24(i24, i24, i24)

define i5 @step(i5 %x) {
  %y = mul i5 %x, 7
  %z = sdiv i5 %y, 3
  ret i5 %z
}
define i256 @grow(i256 %x, i32 %n) {
  %z = icmp eq i32 %n, 0
  br i1 %z, label %end, label %more
end:
  ret i256 %x
more:
  %s = shl i256 %x, 17
  %d = xor i256 %s, %x
  %m = sub i32 %n, 1
  %r = call i256 @grow(i256 %d, i32 %m)
  ret i256 %r
}
define i32 @pick(i70 %x) {
  switch i70 %x, label %other [ i70 0, label %zero
                                i70 590295810358705651712, label %large
                                i70 -1, label %minus ]
zero:
  ret i32 10
large:
  ret i32 20
minus:
  ret i32 30
other:
  ret i32 40
}
define i33 @sum(i33 %a, i33 %b) {
  %p = call { i33, i1 } @llvm.sadd.with.overflow.i33(i33 %a, i33 %b)
  %v = extractvalue { i33, i1 } %p, 0
  %o = extractvalue { i33, i1 } %p, 1
  %r = select i1 %o, i33 -1, i33 %v
  ret i33 %r
}
define i32 @main() {
  %n = load i5, ptr @narrow
  %n1 = call i5 @step(i5 %n)
  store i5 %n1, ptr @narrow
  %a = sext i5 %n1 to i32
  %w = load i256, ptr @wide
  %w1 = call i256 @grow(i256 %w, i32 9)
  store i256 %w1, ptr @wide
  %h = lshr i256 %w1, 190
  %b = trunc i256 %h to i64
  %p0 = call i32 @pick(i70 590295810358705651712)
  %p1 = call i32 @pick(i70 -1)
  %p2 = call i32 @pick(i70 5)
  %p01 = add i32 %p0, %p1
  %c = add i32 %p01, %p2
  %v = load <9 x i1>, ptr @bits
  %vi = bitcast <9 x i1> %v to i9
  %d = zext i9 %vi to i32
  %s = call i33 @sum(i33 4294967295, i33 1)
  %e = sext i33 %s to i64
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i64 %b, i32 %c, i32 %d, i64 %e)
  %pc = call i17 @llvm.ctpop.i17(i17 -2)
  %f = call i24 @llvm.fshl.i24(i24 1, i24 -1, i24 20)
  %pz = zext i17 %pc to i32
  %fz = zext i24 %f to i32
  %q = add i32 %pz, %fz
  %r = or i32 %q, 64
  ret i32 %r
}
