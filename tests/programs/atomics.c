/* C11 atomics in one thread: all operations and widths, flags, fences, structs of 8 bytes. */
#include <stdatomic.h>
#include <stdio.h>

struct pair { int a, b; };
static _Atomic struct pair both;
static atomic_uchar small = 250;
static atomic_ushort medium = 65530;
static atomic_uint number = 5;
static atomic_ulong wide = 1ul << 40;
static atomic_flag flag = ATOMIC_FLAG_INIT;
static _Atomic(int *) pointer;
static _Atomic float real = 1.5f;
static int cells[4] = {10, 20, 30, 40};

static unsigned raise_to(atomic_uint *v, unsigned limit) {
    unsigned seen = atomic_load_explicit(v, memory_order_relaxed);
    while (seen < limit && !atomic_compare_exchange_weak(v, &seen, seen * 2 + 1)) {}
    return seen;
}
static int swap(int by) {
    struct pair old = atomic_load(&both), next = {old.b + by, old.a};
    while (!atomic_compare_exchange_strong(&both, &old, next)) next = (struct pair){old.b + by, old.a};
    return next.a - next.b;
}

int main(void) {
    atomic_init(&pointer, cells);
    for (int i = 0; i < 5; i++) {
        unsigned s = atomic_fetch_add(&small, 3), m = atomic_fetch_xor(&medium, (unsigned short)(i * 77));
        unsigned long w = atomic_exchange(&wide, wide / 3 + 7);
        real += 0.25f;
        int *p = atomic_fetch_add(&pointer, i < 3);
        atomic_thread_fence(memory_order_seq_cst);
        printf("%u %u %u %lu %d %d %g %d\n", s, m, raise_to(&number, 200), w, swap(i), *p, (double)real, atomic_flag_test_and_set(&flag));
        number &= 0xffff;
        medium |= 1;
    }
    atomic_flag_clear(&flag);
    return atomic_is_lock_free(&wide) ? (int)atomic_fetch_sub(&number, 1) & 63 : 99;
}
