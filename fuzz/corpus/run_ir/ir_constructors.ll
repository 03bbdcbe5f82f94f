; Lists of constructors and destructors in an order of their own, with priorities, twice the same, and with data.
@llvm.global_ctors = appending global [4 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 65535, ptr @last, ptr null }, { i32, ptr, ptr } { i32 200, ptr @second, ptr @data }, { i32, ptr, ptr } { i32 101, ptr @first, ptr null }, { i32, ptr, ptr } { i32 300, ptr @second, ptr null }]
@llvm.global_dtors = appending global [2 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 101, ptr @first, ptr null }, { i32, ptr, ptr } { i32 65535, ptr @last, ptr null }]
@data = global i32 1
@first_text = private constant [6 x i8] c"first\00"
@second_text = private constant [7 x i8] c"second\00"
@last_text = private constant [5 x i8] c"last\00"

declare i32 @puts(ptr)

define internal void @step(i32 %by) {
  %v = load i32, ptr @data
  %m = mul i32 %v, 3
  %n = add i32 %m, %by
  store i32 %n, ptr @data
  ret void
}
define internal void @first() {
  call void @step(i32 1)
  call i32 @puts(ptr @first_text)
  ret void
}
define internal void @second() {
  call void @step(i32 2)
  call i32 @puts(ptr @second_text)
  ret void
}
define internal void @last() {
  call void @step(i32 3)
  call i32 @puts(ptr @last_text)
  ret void
}
define i32 @main() {
  %v = load i32, ptr @data
  ret i32 %v
}
