/* Thread-specific data with destructors, pthread_once, and what a destructor sets again. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_key_t key, again;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int made, destroyed, rounds;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void destroy(void *value) { pthread_mutex_lock(&lock); destroyed += *(int *)value; pthread_mutex_unlock(&lock); free(value); }
static void set_again(void *value) {
    pthread_mutex_lock(&lock);
    rounds++;
    pthread_mutex_unlock(&lock);
    if ((long)value > 1) pthread_setspecific(again, (void *)((long)value - 1));
}
static void make(void) { made++; pthread_key_create(&key, destroy); pthread_key_create(&again, set_again); }
static int *mine(int start) {
    pthread_once(&once, make);
    int *p = pthread_getspecific(key);
    if (!p) { p = malloc(sizeof *p); *p = start; pthread_setspecific(key, p); }
    return p;
}
static void *work(void *argument) {
    for (int i = 0; i < 10; i++) *mine((int)(long)argument) += i;
    pthread_setspecific(again, (void *)3);
    return (void *)(long)*mine(0);
}

int main(void) {
    pthread_t threads[3];
    long sum = 0;
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], NULL, work, (void *)(i * 100));
    for (int i = 0; i < 3; i++) { void *r; pthread_join(threads[i], &r); sum += (long)r; }
    printf("%ld %d %d %d %d\n", sum, made, destroyed, rounds, pthread_getspecific(key) == NULL);
    return 0;
}
