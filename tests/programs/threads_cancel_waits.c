/* Threads cancelled in all kinds of calls that wait, below frames that clean up, in a program with a signal handler. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int ends[2], cleaned[10], handled;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static sem_t empty, handled_all;
static pthread_t forever;

static void handler(int s) { (void)s; handled++; sem_post(&handled_all); }
static void clean(void *which) { cleaned[(long)which]++; }
static void unlock(void *which) { (void)which; pthread_mutex_unlock(&lock); }
static void *idles(void *argument) { for (;;) pause(); return argument; }

static void waits(long which) {
    char c;
    struct pollfd poll_for = {.fd = ends[0], .events = POLLIN};
    struct timespec long_time = {1000, 0};
    FILE *stream;
    switch (which) {
    case 0: (void)!read(ends[0], &c, 1); break;
    case 1: poll(&poll_for, 1, -1); break;
    case 2: sleep(1000); break;
    case 3: nanosleep(&long_time, NULL); break;
    case 4: sem_wait(&empty); break;
    case 5:
        pthread_mutex_lock(&lock);
        pthread_cleanup_push(unlock, NULL);
        for (;;) pthread_cond_wait(&never, &lock);
        pthread_cleanup_pop(0);
        break;
    case 6: pthread_join(forever, NULL); break;
    case 7: stream = fdopen(dup(ends[0]), "r"); getc(stream); break;
    default: for (;;) pause();
    }
}
static void *work(void *argument) {
    pthread_cleanup_push(clean, argument);
    waits((long)argument);
    pthread_cleanup_pop(1);
    return NULL;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    sem_init(&empty, 0, 0);
    sem_init(&handled_all, 0, 0);
    if (pipe(ends)) return 1;
    pthread_create(&forever, NULL, idles, NULL);
    for (long which = 0; which < 9; which++) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, NULL, work, (void *)which);
        usleep(10000);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        printf("%ld %d %d\n", which, result == PTHREAD_CANCELED, cleaned[which]);
    }
    /* The lock was given back, and handlers run as ever. */
    pthread_mutex_lock(&lock);
    pthread_kill(forever, SIGUSR1);
    sem_wait(&handled_all);
    raise(SIGUSR1);
    printf("%d\n", handled);
    return 0;
}
