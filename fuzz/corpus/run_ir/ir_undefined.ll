; Freeze, poison that nothing reads, unreachable ends, dead loops, blocks out of order, and phi nodes that swap.
@format = private constant [10 x i8] c"%d %d %d\0A\00"

declare i32 @printf(ptr, ...)
declare void @exit(i32) noreturn

define i32 @freezes(i32 %x, i1 %c) {
  %p = select i1 %c, i32 %x, i32 poison
  %f = freeze i32 %p
  %z = and i32 %f, 0
  %k = select i1 %c, i32 %f, i32 %z
  ret i32 %k
}
define i32 @swaps(i32 %n) {
entry:
  br label %loop
exit:
  ret i32 %b
loop:
  %a = phi i32 [ 1, %entry ], [ %b, %loop ]
  %b = phi i32 [ 2, %entry ], [ %a, %loop ]
  %i = phi i32 [ 0, %entry ], [ %j, %loop ]
  %j = add i32 %i, 1
  %more = icmp slt i32 %j, %n
  br i1 %more, label %loop, label %exit
}
define void @ends(i32 %code) noreturn {
  call void @exit(i32 %code)
  unreachable
dead:
  br label %dead
}
define i32 @main() {
  %a = call i32 @freezes(i32 9, i1 true)
  %b = call i32 @freezes(i32 9, i1 false)
  %c = call i32 @swaps(i32 4)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c)
  call void @ends(i32 37)
  unreachable
}
