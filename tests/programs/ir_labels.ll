; Block addresses in a global table that another function reads, and in one that is written; indirectbr on both.
@format = private constant [7 x i8] c"%d %d\0A\00"
@labels = constant [3 x ptr] [ptr blockaddress(@machine, %add), ptr blockaddress(@machine, %double), ptr blockaddress(@machine, %end)]
@written = global [2 x ptr] [ptr blockaddress(@machine, %end), ptr null]
@program = constant [6 x i8] c"\00\01\00\00\01\02"

declare i32 @printf(ptr, ...)

define ptr @label(i8 %op) {
  %i = zext i8 %op to i64
  %at = getelementptr [3 x ptr], ptr @labels, i64 0, i64 %i
  %l = load ptr, ptr %at
  ret ptr %l
}
define i32 @machine(ptr %code, i32 %start) {
entry:
  br label %next
next:
  %pc = phi ptr [ %code, %entry ], [ %pc1, %add ], [ %pc1, %double ]
  %v = phi i32 [ %start, %entry ], [ %va, %add ], [ %vd, %double ]
  %op = load i8, ptr %pc
  %pc1 = getelementptr i8, ptr %pc, i64 1
  %l = call ptr @label(i8 %op)
  indirectbr ptr %l, [label %add, label %double, label %end]
add:
  %va = add i32 %v, 3
  br label %next
double:
  %vd = shl i32 %v, 1
  br label %next
end:
  ret i32 %v
}
define i32 @direct(i32 %x) {
entry:
  store ptr blockaddress(@direct, %two), ptr getelementptr inbounds ([2 x ptr], ptr @written, i64 0, i64 1)
  %odd = and i32 %x, 1
  %is = icmp eq i32 %odd, 1
  %l = select i1 %is, ptr blockaddress(@direct, %one), ptr blockaddress(@direct, %two)
  indirectbr ptr %l, [label %one, label %two]
one:
  ret i32 111
two:
  %w = load ptr, ptr getelementptr inbounds ([2 x ptr], ptr @written, i64 0, i64 1)
  %same = icmp eq ptr %w, %l
  %r = select i1 %same, i32 222, i32 333
  ret i32 %r
}

define i32 @main() {
  %a = call i32 @machine(ptr @program, i32 1)
  %b = call i32 @direct(i32 1)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b)
  %c = call i32 @machine(ptr getelementptr inbounds (i8, ptr @program, i64 2), i32 %a)
  %d = call i32 @direct(i32 2)
  call i32 (ptr, ...) @printf(ptr @format, i32 %c, i32 %d)
  %l = load ptr, ptr @written
  %e = call ptr @label(i8 2)
  %same = icmp eq ptr %l, %e
  %r = zext i1 %same to i32
  ret i32 %r
}
