/* Threads cancelled where they wait: clean-up handlers run, and joining tells. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_barrier_t ready;
static int cleaned;
static void clean(void *by) { cleaned += (int)(long)by; }
static void waits(int depth) { if (depth) waits(depth - 1); else for (;;) pause(); }
static void *work(void *argument) {
    pthread_cleanup_push(clean, argument);
    pthread_barrier_wait(&ready);
    waits(5);
    pthread_cleanup_pop(1);
    return NULL;
}
static void *shielded(void *argument) {
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    pthread_testcancel();
    return argument;
}

int main(void) {
    pthread_t a, b;
    void *result, *other;
    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&a, NULL, work, (void *)5);
    pthread_barrier_wait(&ready);
    pthread_cancel(a);
    pthread_join(a, &result);
    pthread_create(&b, NULL, shielded, (void *)6);
    pthread_barrier_wait(&ready);
    pthread_cancel(b);
    pthread_barrier_wait(&ready);
    pthread_join(b, &other);
    printf("%d %d %ld\n", result == PTHREAD_CANCELED, cleaned, (long)other);
    return 0;
}
