/* pthread_exit from deep inside, its clean-up handlers, and of main: the process lives until the last thread ends. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t first;
static void say(void *what) { pthread_mutex_lock(&lock); printf("%s\n", (const char *)what); fflush(stdout); pthread_mutex_unlock(&lock); }
static void deep(int n, void *result) { if (n) deep(n - 1, result); else pthread_exit(result); }
static void *leaves(void *argument) {
    pthread_cleanup_push(say, "outer clean-up");
    pthread_cleanup_push(say, "inner clean-up");
    deep(10, argument);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return NULL;
}
static void *last(void *argument) {
    void *result;
    pthread_join(first, &result);
    printf("joined main %ld\n", (long)result);
    (void)argument;
    return NULL;
}

int main(void) {
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, leaves, (void *)77);
    pthread_join(thread, &result);
    printf("%ld\n", (long)result);
    first = pthread_self();
    pthread_create(&thread, NULL, last, NULL);
    deep(3, (void *)5);
    return 9;
}
