/* C11's threads: created, joined, ended from deep inside, with storage and a once; the first thread ends last. */
#include <stdio.h>
#include <threads.h>

static once_flag once = ONCE_FLAG_INIT;
static tss_t key;
static mtx_t lock;
static thread_local int own;
static int sum, ended;

static void prepare(void) { mtx_init(&lock, mtx_plain); puts("once"); }
static void end(void *value) { mtx_lock(&lock); ended += *(int *)value; mtx_unlock(&lock); }
static void deep(int n, int result) { if (n) deep(n - 1, result); else thrd_exit(result); }
static int work(void *argument) {
    int *n = argument;
    call_once(&once, prepare);
    tss_set(key, n);
    for (int i = 0; i < 1000; i++) own += *n;
    mtx_lock(&lock);
    sum += own;
    mtx_unlock(&lock);
    if (*n % 2) deep(*n, -*n);
    return *n * 1000;
}

int main(void) {
    thrd_t threads[6];
    int numbers[6], result;
    if (tss_create(&key, end) != thrd_success) return 1;
    for (int i = 0; i < 6; i++) {
        numbers[i] = i;
        if (thrd_create(&threads[i], work, &numbers[i]) != thrd_success) return 2;
    }
    for (int i = 0; i < 6; i++) {
        if (thrd_join(threads[i], &result) != thrd_success) return 3;
        printf("%d ", result);
    }
    printf("\n%d %d %d\n", sum, ended, own);
    thrd_exit(7);
}
