// The library's threads: mutex, condition_variable, call_once, atomics, futures, packaged tasks, shared locks.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <future>
#include <mutex>
#include <numeric>
#include <queue>
#include <shared_mutex>
#include <thread>
#include <vector>

static std::mutex lock;
static std::condition_variable wake;
static std::queue<int> work;
static bool over;
static std::once_flag once;
static int initialised;
static long worker() {
    std::call_once(once, [] { initialised++; });
    long sum = 0;
    for (;;) {
        std::unique_lock<std::mutex> hold(lock);
        wake.wait(hold, [] { return over || !work.empty(); });
        if (work.empty()) return sum;
        int n = work.front();
        work.pop();
        hold.unlock();
        sum += static_cast<long>(n) * n;
    }
}

int main() {
    std::vector<std::future<long>> results;
    for (int i = 0; i < 3; i++) results.push_back(std::async(std::launch::async, worker));
    for (int i = 0; i < 300; i++) { { std::lock_guard<std::mutex> hold(lock); work.push(i); } wake.notify_one(); }
    { std::lock_guard<std::mutex> hold(lock); over = true; }
    wake.notify_all();
    long sum = 0;
    for (auto &r : results) sum += r.get();
    std::packaged_task<int(int)> task([](int x) { return x * 2; });
    auto result = task.get_future();
    std::thread(std::move(task), 21).join();
    std::shared_mutex shared;
    std::atomic<int> reads{0};
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; i++) readers.emplace_back([&] { for (int k = 0; k < 50; k++) { std::shared_lock hold(shared); reads++; } });
    for (auto &t : readers) t.join();
    std::printf("%ld %d %d %d\n", sum, initialised, result.get(), reads.load());
    return 0;
}
