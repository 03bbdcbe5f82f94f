// The library's containers and algorithms with types and orders of the program's own.
#include <algorithm>
#include <cstdio>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <queue>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

struct word { std::string text; int rank; bool operator<(const word &o) const { return rank != o.rank ? rank < o.rank : text < o.text; } };
struct hash { std::size_t operator()(const word &w) const { return static_cast<std::size_t>(w.rank) * 31 + w.text.size(); } };
struct same { bool operator()(const word &a, const word &b) const { return a.rank == b.rank && a.text == b.text; } };

int main() {
    std::vector<word> words;
    std::map<std::string, int> counts;
    for (int i = 0; i < 60; i++) words.push_back({std::string(static_cast<std::size_t>(i % 7 + 1), static_cast<char>('a' + i % 11)), i * 37 % 13});
    for (auto &w : words) counts[w.text.substr(0, 2)]++;
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end(), same()), words.end());
    std::set<word> sorted(words.begin(), words.end());
    std::unordered_map<word, int, hash, same> index;
    for (auto &w : words) index.emplace(w, static_cast<int>(index.size()));
    std::priority_queue<int, std::vector<int>, std::greater<>> queue;
    for (auto &w : words) queue.push(w.rank * 7 % 10);
    int order = 0;
    while (!queue.empty()) { order = (order * 3 + queue.top()) % 10007; queue.pop(); }
    std::list<int> list(10);
    std::iota(list.begin(), list.end(), 1);
    list.remove_if([](int x) { return x % 3 == 0; });
    std::deque<std::shared_ptr<word>> shared;
    for (auto &w : sorted) { auto p = std::make_shared<word>(w); shared.push_back(p); shared.push_front(p); }
    std::printf("%zu %zu %zu %s %d %d %ld\n", words.size(), sorted.size(), counts.size(), words[3].text.c_str(), order, std::accumulate(list.begin(), list.end(), 0), shared.front().use_count());
    for (auto &[key, n] : counts) std::printf("%s%d ", key.c_str(), n);
    std::printf("%d\n", index.count(words[5]) ? index[words[5]] : -1);
    std::stable_partition(words.begin(), words.end(), [](const word &w) { return w.rank & 1; });
    return words.front().rank;
}
