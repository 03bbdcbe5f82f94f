; callbr with indirect targets and outputs, assembly that is inline with operands by Intel's syntax.
@format = private constant [10 x i8] c"%d %d %d\0A\00"

declare i32 @printf(ptr, ...)

define i32 @sign(i32 %x) {
  callbr void asm sideeffect "testl $0, $0; js ${1:l}; jz ${2:l}", "r,!i,!i,~{dirflag},~{fpsr},~{flags}"(i32 %x) to label %positive [label %negative, label %zero]
positive:
  ret i32 1
negative:
  ret i32 -1
zero:
  ret i32 0
}
define i32 @intel(i32 %x) {
  %r = call i32 asm inteldialect "lea $0, [$1 + $1*4 + 3]", "=r,r,~{dirflag},~{fpsr},~{flags}"(i32 %x)
  ret i32 %r
}
define i32 @main() {
  %a = call i32 @sign(i32 5)
  %b = call i32 @sign(i32 -5)
  %c = call i32 @sign(i32 0)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c)
  %r = call i32 @intel(i32 8)
  ret i32 %r
}
