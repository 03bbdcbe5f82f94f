/* Condition variables: a bounded queue between producers and consumers, a wait with a limit, a broadcast. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { ROOM = 4, ITEMS = 300 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER, go = PTHREAD_COND_INITIALIZER;
static int queue[ROOM], head, count, started;
static void put(int v) {
    pthread_mutex_lock(&lock);
    while (count == ROOM) pthread_cond_wait(&not_full, &lock);
    queue[(head + count++) % ROOM] = v;
    pthread_cond_signal(&not_empty);
    pthread_mutex_unlock(&lock);
}
static int take(void) {
    pthread_mutex_lock(&lock);
    while (!count) pthread_cond_wait(&not_empty, &lock);
    int v = queue[head];
    head = (head + 1) % ROOM;
    count--;
    pthread_cond_signal(&not_full);
    pthread_mutex_unlock(&lock);
    return v;
}
static void *produce(void *from) {
    pthread_mutex_lock(&lock);
    while (!started) pthread_cond_wait(&go, &lock);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < ITEMS; i++) put((int)(long)from + i);
    return NULL;
}
static void *consume(void *unused) { long sum = 0; (void)unused; for (int i = 0; i < ITEMS; i++) sum += take(); return (void *)sum; }

int main(void) {
    pthread_t makers[2], takers[2];
    for (long i = 0; i < 2; i++) pthread_create(&makers[i], NULL, produce, (void *)(i * 1000));
    for (int i = 0; i < 2; i++) pthread_create(&takers[i], NULL, consume, NULL);
    pthread_mutex_lock(&lock);
    struct timespec soon = {1, 0};
    int late = pthread_cond_timedwait(&not_full, &lock, &soon);
    started = 1;
    pthread_cond_broadcast(&go);
    pthread_mutex_unlock(&lock);
    long total = 0;
    for (int i = 0; i < 2; i++) pthread_join(makers[i], NULL);
    for (int i = 0; i < 2; i++) { void *sum; pthread_join(takers[i], &sum); total += (long)sum; }
    printf("%ld %d %d\n", total, count, late == ETIMEDOUT);
    return 0;
}
