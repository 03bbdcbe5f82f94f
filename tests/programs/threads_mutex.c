/* Mutexes, read-write locks and spin locks around shared data; recursive and error-checking kinds. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER, recursive, checking;
static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static long counter, table[8], spun;
static int nest(int n) { pthread_mutex_lock(&recursive); int r = n ? nest(n - 1) + 1 : 0; pthread_mutex_unlock(&recursive); return r; }
static long look(void) {
    long sum = 0;
    pthread_rwlock_rdlock(&shared);
    for (int i = 0; i < 8; i++) sum += table[i];
    pthread_rwlock_unlock(&shared);
    return sum % 8;
}
static void *work(void *argument) {
    long bad = 0;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&plain);
        counter++;
        pthread_mutex_unlock(&plain);
        pthread_spin_lock(&spin);
        spun += i & 1;
        pthread_spin_unlock(&spin);
        if (i % 50 == 0) {
            pthread_rwlock_wrlock(&shared);
            for (int k = 0; k < 8; k++) table[k]++;
            pthread_rwlock_unlock(&shared);
        }
        bad += look() + (nest(3) != 3);
    }
    (void)argument;
    return (void *)bad;
}

int main(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checking, &kind);
    pthread_spin_init(&spin, 0);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, NULL);
    long bad = 0;
    for (int i = 0; i < 4; i++) { void *r; pthread_join(threads[i], &r); bad += (long)r; }
    pthread_mutex_lock(&checking);
    printf("%ld %ld %ld %ld %d\n", counter, spun, table[7], bad, pthread_mutex_lock(&checking) == EDEADLK);
    return 0;
}
