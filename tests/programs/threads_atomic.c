/* Threads that share atomics: counters, a spin lock of a flag, a stack without locks, publication by release. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { THREADS = 4, ROUNDS = 400 };
struct node { struct node *next; int value; };
static struct node nodes[THREADS][ROUNDS];
static _Atomic(struct node *) top;
static atomic_int counter, published;
static atomic_flag busy = ATOMIC_FLAG_INIT;
static long guarded;
static int message;
static void push(struct node *n) { n->next = atomic_load(&top); while (!atomic_compare_exchange_weak(&top, &n->next, n)) {} }
static void locked(int by) { while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) {} guarded += by; atomic_flag_clear_explicit(&busy, memory_order_release); }
static void *work(void *argument) {
    long index = (long)argument;
    while (!atomic_load_explicit(&published, memory_order_acquire)) {}
    for (int i = 0; i < ROUNDS; i++) {
        nodes[index][i].value = (int)index * message + i;
        push(&nodes[index][i]);
        counter++;
        locked(i);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    message = 1000;
    atomic_store_explicit(&published, 1, memory_order_release);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    long sum = 0, n = 0;
    for (struct node *at = top; at; at = at->next, n++) sum += at->value;
    printf("%ld %ld %d %ld\n", n, sum, counter, guarded);
    return 0;
}
