; Vector operations: reductions, shuffles, selects, masked memory, gathers, of pointers, scalable-free odd lengths.
@format = private constant [16 x i8] c"%d %d %g %d %d\0A\00"
@data = global [8 x i32] [i32 5, i32 -3, i32 8, i32 1, i32 -9, i32 2, i32 7, i32 4]
@reals = constant <3 x double> <double 1.5, double 2.5, double -0.5>

declare i32 @printf(ptr, ...)
declare i32 @llvm.vector.reduce.add.v8i32(<8 x i32>)
declare i32 @llvm.vector.reduce.smax.v8i32(<8 x i32>)
declare double @llvm.vector.reduce.fadd.v3f64(double, <3 x double>)
declare <4 x i32> @llvm.masked.load.v4i32.p0(ptr, i32, <4 x i1>, <4 x i32>)
declare void @llvm.masked.store.v4i32.p0(<4 x i32>, ptr, i32, <4 x i1>)
declare <4 x i32> @llvm.masked.gather.v4i32.v4p0(<4 x ptr>, i32, <4 x i1>, <4 x i32>)
declare <8 x i32> @llvm.abs.v8i32(<8 x i32>, i1)
declare i32 @llvm.vector.reduce.add.v4i32(<4 x i32>)
declare i32 @llvm.vector.reduce.mul.v4i32(<4 x i32>)

define <8 x i32> @mix(<8 x i32> %a, <8 x i32> %b) {
  %c = icmp sgt <8 x i32> %a, %b
  %s = select <8 x i1> %c, <8 x i32> %a, <8 x i32> %b
  %t = shufflevector <8 x i32> %s, <8 x i32> %a, <8 x i32> <i32 7, i32 6, i32 5, i32 4, i32 8, i32 9, i32 10, i32 11>
  ret <8 x i32> %t
}
define <4 x i32> @gather(<4 x i64> %i) {
  %p = getelementptr i32, ptr @data, <4 x i64> %i
  %v = call <4 x i32> @llvm.masked.gather.v4i32.v4p0(<4 x ptr> %p, i32 4, <4 x i1> <i1 1, i1 1, i1 0, i1 1>, <4 x i32> splat (i32 100))
  ret <4 x i32> %v
}
define double @total(<3 x double> %v, double %by) {
  %i = insertelement <3 x double> poison, double %by, i32 0
  %s = shufflevector <3 x double> %i, <3 x double> poison, <3 x i32> zeroinitializer
  %m = fmul <3 x double> %v, %s
  %r = call double @llvm.vector.reduce.fadd.v3f64(double 0.0, <3 x double> %m)
  ret double %r
}
define i32 @main() {
  %v = load <8 x i32>, ptr @data
  %abs = call <8 x i32> @llvm.abs.v8i32(<8 x i32> %v, i1 false)
  %m = call <8 x i32> @mix(<8 x i32> %v, <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>)
  %a = call i32 @llvm.vector.reduce.add.v8i32(<8 x i32> %m)
  %b = call i32 @llvm.vector.reduce.smax.v8i32(<8 x i32> %abs)
  %r = load <3 x double>, ptr @reals
  %c = call double @total(<3 x double> %r, double 4.0)
  %l = call <4 x i32> @llvm.masked.load.v4i32.p0(ptr @data, i32 4, <4 x i1> <i1 1, i1 0, i1 0, i1 1>, <4 x i32> splat (i32 7))
  call void @llvm.masked.store.v4i32.p0(<4 x i32> %l, ptr @data, i32 4, <4 x i1> <i1 0, i1 1, i1 0, i1 1>)
  %d = call i32 @llvm.vector.reduce.mul.v4i32(<4 x i32> %l)
  %g = call <4 x i32> @gather(<4 x i64> <i64 1, i64 2, i64 3, i64 4>)
  %e = call i32 @llvm.vector.reduce.add.v4i32(<4 x i32> %g)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, double %c, i32 %d, i32 %e)
  ret i32 0
}
