// Coroutines: generators, one that throws, frames destroyed early.
#include <coroutine>
#include <cstdio>
#include <exception>
#include <utility>

struct generator {
    struct promise_type {
        int value = 0;
        std::exception_ptr failure;
        generator get_return_object() { return generator(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_always initial_suspend() { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        std::suspend_always yield_value(int v) { value = v; return {}; }
        void return_void() {}
        void unhandled_exception() { failure = std::current_exception(); }
    };
    std::coroutine_handle<promise_type> handle;
    explicit generator(std::coroutine_handle<promise_type> h) : handle(h) {}
    generator(generator &&o) : handle(std::exchange(o.handle, {})) {}
    ~generator() { if (handle) handle.destroy(); }
    bool next() { handle.resume(); if (handle.promise().failure) std::rethrow_exception(handle.promise().failure); return !handle.done(); }
    int value() { return handle.promise().value; }
};
struct noisy { const char *name; ~noisy() { std::printf("-%s ", name); } };
static generator squares(int n) { noisy in{"squares"}; for (int i = 0; i < n; i++) co_yield i * i; }
static generator nested(int n) { for (int i = 1; i < n; i++) { generator g = squares(i); while (g.next()) co_yield i * 100 + g.value(); } }
static generator fails() { noisy in{"fails"}; co_yield 1; throw 5; }

int main() {
    for (generator g = nested(4); g.next();) std::printf("%d ", g.value());
    { generator g = squares(9); g.next(); g.next(); std::printf("[%d] ", g.value()); }
    try { generator g = fails(); while (g.next()) std::printf("%d ", g.value()); } catch (int n) { std::printf("thrown %d\n", n); }
    return 0;
}
