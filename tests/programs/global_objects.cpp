// Global objects: made in order and by priority before main, destroyed in reverse after it, with handlers in between.
#include <cstdio>
#include <cstdlib>

static int step;
struct noisy { const char *name; explicit noisy(const char *name) : name(name) { std::printf("%d +%s\n", ++step, name); } ~noisy() { std::printf("%d -%s\n", ++step, name); } };
static noisy first("first");
__attribute__((init_priority(500))) static noisy early("early");
static noisy list[2] = {noisy("zero"), noisy("one")};
static int computed = step * 100;
inline noisy shared("shared");
template <class T> struct holder { static noisy inside; };
template <class T> noisy holder<T>::inside("inside");
static noisy &in_function() { static noisy late("late"); return late; }
static struct registers { registers() { std::atexit([] { std::printf("%d handler of a constructor\n", ++step); }); } } registering;
__attribute__((constructor)) static void plain() { std::printf("%d plain\n", ++step); }
__attribute__((destructor)) static void last() { std::printf("%d last\n", ++step); }

int main() {
    std::printf("main %d %s\n", computed, holder<int>::inside.name);
    std::atexit([] { std::printf("%d handler of main\n", ++step); });
    in_function();
    return step;
}
