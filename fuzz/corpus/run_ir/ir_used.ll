; llvm.used and llvm.compiler.used, metadata, and module flags: bookkeeping that changes nothing.
@llvm.used = appending global [2 x ptr] [ptr @kept, ptr @variable], section "llvm.metadata"
@llvm.compiler.used = appending global [1 x ptr] [ptr @also], section "llvm.metadata"
@llvm.global_ctors = appending global [0 x { i32, ptr, ptr }] zeroinitializer
@variable = internal global i32 3, section "own"
@note = internal constant [5 x i8] c"note\00", section "llvm.metadata"

define internal i32 @kept(i32 %x) section "text.own" {
  %v = load i32, ptr @variable
  %r = add i32 %x, %v
  ret i32 %r
}
define internal i32 @also() #0 !note !0 {
  ret i32 5
}
define i32 @main() {
  %a = call i32 @kept(i32 10), !range !1
  %b = call i32 @also()
  %r = add i32 %a, %b
  ret i32 %r
}

attributes #0 = { noinline "some"="attribute" }
!llvm.module.flags = !{!2}
!llvm.ident = !{!3}
!0 = !{!"anything", ptr @kept}
!1 = !{i32 0, i32 100}
!2 = !{i32 1, !"wchar_size", i32 4}
!3 = !{!"by hand"}
