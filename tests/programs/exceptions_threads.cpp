// Exceptions in several threads at once, and carried from one to another by futures.
#include <cstdio>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

static int risky(int n) { if (n % 3 == 0) throw std::runtime_error("three"); if (n % 5 == 0) throw n; return n; }
static long work(int from) {
    long sum = 0;
    for (int i = from; i < from + 200; i++) try { sum += risky(i); } catch (int n) { sum += 1000L * n; } catch (std::exception &) { sum -= 1; }
    return sum;
}

int main() {
    std::vector<std::future<long>> results;
    for (int i = 0; i < 3; i++) results.push_back(std::async(std::launch::async, work, i * 100 + 1));
    for (auto &r : results) std::printf("%ld ", r.get());
    auto fails = std::async(std::launch::async, [] { return risky(9); });
    try { fails.get(); } catch (const std::exception &e) { std::printf("%s\n", e.what()); }
    return 0;
}
