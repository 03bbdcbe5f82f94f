; Atomic operations beyond C's: nand, min and max, floating, saturating wraps, compare and exchange of pointers.
@format = private constant [19 x i8] c"%d %d %d %g %d %d\0A\00"
@cell = global i32 100
@real = global double 1.5
@small = global i8 -128
@pointer = global ptr @cell

declare i32 @printf(ptr, ...)

define i32 @all(i32 %x) {
  %a = atomicrmw nand ptr @cell, i32 %x seq_cst
  %b = atomicrmw umax ptr @cell, i32 %x acq_rel
  %c = atomicrmw min ptr @cell, i32 %x monotonic
  %d = atomicrmw uinc_wrap ptr @cell, i32 %x acquire
  %e = atomicrmw sub ptr @cell, i32 5 release
  %ab = xor i32 %a, %b
  %cd = xor i32 %c, %d
  %abcd = add i32 %ab, %cd
  %r = add i32 %abcd, %e
  ret i32 %r
}
define i1 @swap(ptr %to) {
  %p = load atomic ptr, ptr @pointer acquire, align 8
  %r = cmpxchg ptr @pointer, ptr %p, ptr %to acq_rel monotonic
  %ok = extractvalue { ptr, i1 } %r, 1
  ret i1 %ok
}
define i32 @main() {
  %a = call i32 @all(i32 17)
  %b = call i32 @all(i32 -4)
  %s = atomicrmw add ptr @small, i8 -1 seq_cst
  %c = sext i8 %s to i32
  %f = atomicrmw fadd ptr @real, double 2.25 seq_cst
  %g = atomicrmw fmax ptr @real, double 3.0 seq_cst
  %o = call i1 @swap(ptr @small)
  %p = call i1 @swap(ptr @real)
  fence seq_cst
  %q = load ptr, ptr @pointer
  %same = icmp eq ptr %q, @real
  %d = zext i1 %same to i32
  %e = zext i1 %o to i32
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c, double %g, i32 %d, i32 %e)
  %v = load atomic i32, ptr @cell seq_cst, align 4
  %r = urem i32 %v, 100
  ret i32 %r
}
