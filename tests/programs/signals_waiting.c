/* A handler must run while its thread waits for another thread, which waits for what the handler does; and while it
 * does nothing at all, after it was interrupted in the middle of a library. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t stop, ticks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t both, ready;
static int done;

static void handler(int s) { if (s == SIGTERM) stop = 1; else ticks++; }
static void wait_for_stop(void) { while (!stop) usleep(1000); }
static void *worker(void *argument) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    switch ((int)(long)argument) {
    case 0:
        wait_for_stop();
        break;
    case 1:
        pthread_mutex_lock(&lock);
        pthread_barrier_wait(&ready);
        wait_for_stop();
        pthread_mutex_unlock(&lock);
        break;
    case 2:
        wait_for_stop();
        pthread_mutex_lock(&lock);
        done = 1;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
        break;
    case 3:
        pthread_rwlock_wrlock(&shared);
        pthread_barrier_wait(&ready);
        wait_for_stop();
        pthread_rwlock_unlock(&shared);
        break;
    default:
        wait_for_stop();
        pthread_barrier_wait(&both);
    }
    return argument;
}
static void *killer(void *argument) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    usleep(30000);
    kill(getpid(), SIGTERM);
    return argument;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    pthread_barrier_init(&both, NULL, 2);
    pthread_barrier_init(&ready, NULL, 2);
    for (long way = 0; way < 5; way++) {
        pthread_t thread, kills;
        void *result;
        stop = 0;
        pthread_create(&thread, NULL, worker, (void *)way);
        if (way == 1 || way == 3) pthread_barrier_wait(&ready);
        pthread_create(&kills, NULL, killer, NULL);
        switch (way) {
        case 1:
            pthread_mutex_lock(&lock);
            pthread_mutex_unlock(&lock);
            break;
        case 2:
            pthread_mutex_lock(&lock);
            while (!done) pthread_cond_wait(&changed, &lock);
            pthread_mutex_unlock(&lock);
            break;
        case 3:
            pthread_rwlock_rdlock(&shared);
            pthread_rwlock_unlock(&shared);
            break;
        case 4:
            pthread_barrier_wait(&both);
        }
        pthread_join(thread, &result);
        pthread_join(kills, NULL);
        printf("%ld %d\n", (long)result, stop);
    }
    /* Nearly all of the time in malloc; then in a loop that calls nothing, until what was missed has been made up. */
    for (int round = 0; round < 200; round++) {
        struct itimerval once = {{0, 0}, {0, 300}};
        int before = ticks;
        setitimer(ITIMER_REAL, &once, NULL);
        for (int i = 0; i < 2000 && ticks == before; i++) free(malloc(100 + i * 64 % 70000));
        while (ticks == before) {}
    }
    printf("%d\n", ticks);
    return 0;
}
