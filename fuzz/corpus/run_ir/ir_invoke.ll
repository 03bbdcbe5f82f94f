; Invokes and landing pads by hand: a catch by type, a cleanup that resumes, a filter by selector, none taken.
@_ZTIi = external constant ptr
@_ZTIl = external constant ptr
@format = private constant [10 x i8] c"%d %d %d\0A\00"
@cleaned = global i32 0

declare i32 @printf(ptr, ...)
declare i32 @__gxx_personality_v0(...)
declare ptr @__cxa_allocate_exception(i64)
declare void @__cxa_throw(ptr, ptr, ptr) noreturn
declare ptr @__cxa_begin_catch(ptr)
declare void @__cxa_end_catch()
declare i32 @llvm.eh.typeid.for.p0(ptr)

define void @risky(i32 %x) {
  %z = icmp eq i32 %x, 0
  br i1 %z, label %fine, label %bad
fine:
  ret void
bad:
  %e = call ptr @__cxa_allocate_exception(i64 8)
  store i32 %x, ptr %e
  %odd = and i32 %x, 1
  %is = icmp eq i32 %odd, 1
  %type = select i1 %is, ptr @_ZTIi, ptr @_ZTIl
  call void @__cxa_throw(ptr %e, ptr %type, ptr null)
  unreachable
}
define void @cleans(i32 %x) personality ptr @__gxx_personality_v0 {
  invoke void @risky(i32 %x) to label %done unwind label %pad
done:
  ret void
pad:
  %lp = landingpad { ptr, i32 } cleanup
  %c = load i32, ptr @cleaned
  %n = add i32 %c, 1
  store i32 %n, ptr @cleaned
  resume { ptr, i32 } %lp
}
define i32 @attempt(i32 %x) personality ptr @__gxx_personality_v0 {
  invoke void @cleans(i32 %x) to label %done unwind label %pad
done:
  ret i32 1
pad:
  %lp = landingpad { ptr, i32 } catch ptr @_ZTIi catch ptr @_ZTIl
  %e = extractvalue { ptr, i32 } %lp, 0
  %s = extractvalue { ptr, i32 } %lp, 1
  %int = call i32 @llvm.eh.typeid.for.p0(ptr @_ZTIi)
  %match = icmp eq i32 %s, %int
  %p = call ptr @__cxa_begin_catch(ptr %e)
  %v = load i32, ptr %p
  call void @__cxa_end_catch()
  %minus = sub i32 0, %v
  %r = select i1 %match, i32 %v, i32 %minus
  ret i32 %r
}
define i32 @main() {
  %a = call i32 @attempt(i32 0)
  %b = call i32 @attempt(i32 7)
  %c = call i32 @attempt(i32 8)
  call i32 (ptr, ...) @printf(ptr @format, i32 %a, i32 %b, i32 %c)
  %n = load i32, ptr @cleaned
  ret i32 %n
}
