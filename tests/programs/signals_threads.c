/* Signals sent to threads, waited for by one, and a handler that sees its thread's own variables. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static _Thread_local volatile int mine;
static sem_t ready, handled;
static int waited;
static void handler(int s) { mine += s == SIGUSR1 ? 10 : 1; sem_post(&handled); }
static void *work(void *argument) {
    mine = (int)(long)argument;
    sem_post(&ready);
    while (mine < (int)(long)argument + 11) {}
    return (void *)(long)mine;
}
static void *waits(void *argument) { int s; sigwait(argument, &s); waited = s == SIGTERM; return NULL; }

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    sem_init(&ready, 0, 0);
    sem_init(&handled, 0, 0);
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    pthread_t threads[2], waiter;
    pthread_create(&waiter, NULL, waits, &term);
    for (long i = 0; i < 2; i++) pthread_create(&threads[i], NULL, work, (void *)(i * 100));
    for (int i = 0; i < 2; i++) sem_wait(&ready);
    for (int i = 0; i < 2; i++) { pthread_kill(threads[i], SIGUSR1); pthread_kill(threads[i], SIGUSR2); }
    pthread_kill(waiter, SIGTERM);
    pthread_join(waiter, NULL);
    for (int i = 0; i < 2; i++) { void *r; pthread_join(threads[i], &r); printf("%ld ", (long)r); }
    printf("%d %d\n", waited, mine);
    return 0;
}
