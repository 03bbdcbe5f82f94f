/* Detached threads, attributes with a small stack, and a process that ends while a thread still waits. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static sem_t done;
static int results[4];
static int deep(int n) { volatile char room[100]; room[0] = (char)n; return n ? deep(n - 1) + 1 : room[0]; }
static void *work(void *argument) {
    int i = (int)(long)argument;
    results[i] = deep(i * 50) + i;
    sem_post(&done);
    return NULL;
}
static void *never(void *unused) { (void)unused; sem_post(&done); for (;;) pause(); return NULL; }
static void last(void) { printf("last\n"); }

int main(void) {
    pthread_t thread;
    pthread_attr_t small;
    atexit(last);
    sem_init(&done, 0, 0);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 << 10);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    for (long i = 0; i < 3; i++) pthread_create(&thread, &small, work, (void *)i);
    pthread_create(&thread, NULL, work, (void *)3);
    pthread_detach(thread);
    pthread_create(&thread, NULL, never, NULL);
    for (int i = 0; i < 5; i++) sem_wait(&done);
    printf("%d %d %d %d\n", results[0], results[1], results[2], results[3]);
    return 3;
}
