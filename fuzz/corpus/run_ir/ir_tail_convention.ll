; A calling convention that is not C's: refused.
define tailcc i32 @by_tail(i32 %x) {
  %r = add i32 %x, 1
  ret i32 %r
}
define i32 @main() {
  %r = call tailcc i32 @by_tail(i32 4)
  ret i32 %r
}
