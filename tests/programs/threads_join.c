/* Threads created, given arguments, joined for their results; threads that make threads. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct job { int from, to; long sum; };
static int is_prime(int n) { for (int d = 2; d * d <= n; d++) if (n % d == 0) return 0; return n > 1; }
static void *primes(void *argument) {
    struct job *j = argument;
    for (int n = j->from; n < j->to; n++) if (is_prime(n)) j->sum += n;
    return j;
}
static void *tree(void *argument) {
    long depth = (long)argument;
    if (!depth) return (void *)1;
    pthread_t left;
    pthread_create(&left, NULL, tree, (void *)(depth - 1));
    long right = (long)tree((void *)(depth - 1)), result;
    pthread_join(left, (void **)&result);
    return (void *)(result + right);
}

int main(void) {
    pthread_t threads[6];
    struct job jobs[6];
    for (int i = 0; i < 6; i++) {
        jobs[i] = (struct job){i * 500, i * 500 + 500, 0};
        pthread_create(&threads[i], NULL, primes, &jobs[i]);
    }
    for (int i = 0; i < 6; i++) {
        void *result;
        pthread_join(threads[i], &result);
        printf("%ld %d ", ((struct job *)result)->sum, result == &jobs[i]);
    }
    printf("%ld\n", (long)tree((void *)4));
    return 0;
}
