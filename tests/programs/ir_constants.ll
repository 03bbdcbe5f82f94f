; Initialisers that are expressions: differences, offsets, truncations, functions with offsets, tables of themselves.
@format = private constant [17 x i8] c"%ld %ld %d %d %s\00"
@text = private constant [14 x i8] c"abc\00defg\00hijk\0A"
@end = private constant [2 x i8] c"\0A\00"
@array = internal global [8 x i64] [i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7]
@length = constant i64 sub (i64 ptrtoint (ptr getelementptr (i8, ptr @array, i64 64) to i64), i64 ptrtoint (ptr @array to i64))
@distances = constant [2 x i32] [i32 trunc (i64 sub (i64 ptrtoint (ptr @one to i64), i64 ptrtoint (ptr @distances to i64)) to i32), i32 trunc (i64 sub (i64 ptrtoint (ptr @two to i64), i64 ptrtoint (ptr @distances to i64)) to i32)]
@middle = global ptr getelementptr inbounds (i64, ptr @array, i64 4)
@one = internal constant i32 111
@two = internal constant i32 222
@cycle = global { ptr, ptr, i64 } { ptr @cycle, ptr getelementptr ({ ptr, ptr, i64 }, ptr @cycle, i32 0, i32 2), i64 99 }
@word = constant ptr getelementptr inbounds (i8, ptr @text, i64 4)
@number = global i64 ptrtoint (ptr @function to i64)
@empty = global {} zeroinitializer
@vector = constant <2 x ptr> <ptr @one, ptr @two>

declare i32 @printf(ptr, ...)

define i32 @function(i32 %x) {
  %at = getelementptr [2 x i32], ptr @distances, i64 0, i32 %x
  %d = load i32, ptr %at
  %w = sext i32 %d to i64
  %p = getelementptr i8, ptr @distances, i64 %w
  %v = load i32, ptr %p
  ret i32 %v
}
define i32 @main() {
  %l = load i64, ptr @length
  %m = load ptr, ptr @middle
  %n = load i64, ptr %m
  %f = load i64, ptr @number
  %fp = inttoptr i64 %f to ptr
  %a = call i32 %fp(i32 0)
  %b = call i32 @function(i32 1)
  %w = load ptr, ptr @word
  call i32 (ptr, ...) @printf(ptr @format, i64 %l, i64 %n, i32 %a, i32 %b, ptr %w)
  call i32 (ptr, ...) @printf(ptr @end)
  %c = load ptr, ptr @cycle
  %same = icmp eq ptr %c, @cycle
  %cp = load ptr, ptr getelementptr ({ ptr, ptr, i64 }, ptr @cycle, i32 0, i32 1)
  %cv = load i64, ptr %cp
  %ct = trunc i64 %cv to i32
  %v = load <2 x ptr>, ptr @vector
  %v1 = extractelement <2 x ptr> %v, i32 1
  %vv = load i32, ptr %v1
  %sum = add i32 %ct, %vv
  %r = select i1 %same, i32 %sum, i32 1
  %r8 = urem i32 %r, 251
  ret i32 %r8
}
