// Templates without any library: specialised, variadic, recursive, with static members, fold expressions, concepts.
extern "C" int printf(const char *, ...);

template <class T> struct traits { static const char *name() { return "some"; } static int count; };
template <> struct traits<int> { static const char *name() { return "int"; } static int count; };
template <class T> struct traits<T *> { static const char *name() { return "pointer"; } static int count; };
template <class T> int traits<T>::count = 1;
int traits<int>::count = 100;
template <class T> int traits<T *>::count = 1000;

template <unsigned N> struct fibonacci { static constexpr unsigned long value = fibonacci<N - 1>::value + fibonacci<N - 2>::value; };
template <> struct fibonacci<0> { static constexpr unsigned long value = 0; };
template <> struct fibonacci<1> { static constexpr unsigned long value = 1; };
template <class... T> static auto sum(T... v) { return (v + ... + 0); }
template <class... T> static int names(T...) { return (printf("%s ", traits<T>::name()) + ... + 0); }
template <class T> concept small = sizeof(T) < 4;
template <small T> static int width(T) { return 1; }
template <class T> static int width(T) { return 2; }
template <class T, int N> struct array {
    T items[N];
    template <class F> array map(F f) const { array r{}; for (int i = 0; i < N; i++) r.items[i] = f(items[i]); return r; }
    T fold(T (*f)(T, T)) const { T r = items[0]; for (int i = 1; i < N; i++) r = f(r, items[i]); return r; }
};
template <class T> static T largest(T a, T b) { return a > b ? a : b; }
template <class T> static int bump() { static int calls = sizeof(T); return ++calls; }

int main() {
    int by = 3;
    array<int, 5> a{{5, 1, 4, 2, 3}};
    array<double, 3> d{{0.5, 2.5, 1.5}};
    printf("%d %g %d\n", a.map([by](int x) { return x * by; }).fold(largest<int>), d.fold(largest<double>), names(1, 2.0, "three", 'c'));
    printf("%lu %g %d %d\n", fibonacci<50>::value, sum(1, 2.5, 3), width('c'), width(1L));
    for (int i = 0; i < 3; i++) printf("%d %d %d %d %d\n", traits<int>::count++, traits<char *>::count++, traits<long>::count++, bump<char>(), bump<long>());
    return sum(1, 2, 3);
}
