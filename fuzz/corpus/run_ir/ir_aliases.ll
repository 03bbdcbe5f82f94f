; Aliases of every form: into the middle of a variable, of an alias, of a function by another linkage, as initialisers.
@format = private constant [13 x i8] c"%d %d %d %d\0A\00"
@numbers = global [4 x i32] [i32 1, i32 2, i32 3, i32 4]
@third = alias i32, getelementptr inbounds ([4 x i32], ptr @numbers, i64 0, i64 2)
@again = internal alias i32, ptr @third
@pair = internal global { i32, i32 } { i32 10, i32 20 }
@second = weak alias i32, getelementptr inbounds ({ i32, i32 }, ptr @pair, i32 0, i32 1)
@doubled = alias i32 (i32), ptr @twice
@private = private alias i32 (i32), ptr @doubled
@table = constant [3 x ptr] [ptr @twice, ptr @doubled, ptr @private]
@place = global ptr @again

declare i32 @printf(ptr, ...)

define internal i32 @twice(i32 %x) {
  %r = shl i32 %x, 1
  ret i32 %r
}

define i32 @by_table(i64 %i, i32 %x) {
  %at = getelementptr ptr, ptr @table, i64 %i
  %f = load ptr, ptr %at
  %r = call i32 %f(i32 %x)
  %same = icmp eq ptr %f, @twice
  %one = zext i1 %same to i32
  %s = add i32 %r, %one
  ret i32 %s
}

define i32 @main() {
  store i32 30, ptr @again
  store i32 21, ptr @second
  %p = load ptr, ptr @place
  %a = load i32, ptr %p
  %b = load i32, ptr getelementptr inbounds ([4 x i32], ptr @numbers, i64 0, i64 2)
  %c = load i32, ptr getelementptr inbounds ({ i32, i32 }, ptr @pair, i32 0, i32 1)
  %d = call i32 @private(i32 50)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c, i32 %d)
  %e = call i32 @by_table(i64 0, i32 1)
  %f = call i32 @by_table(i64 1, i32 2)
  %g = call i32 @by_table(i64 2, i32 3)
  call i32 (ptr, ...) @printf(ptr @format, i32 %e, i32 %f, i32 %g, i32 0)
  ret i32 0
}
