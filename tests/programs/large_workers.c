/* A pool of workers: a bounded queue of jobs, jobs that make jobs, results gathered by tickets, a shared cache under a
   read-write lock, per-thread scratch, and a pipeline of stages. Every number printed is independent of scheduling. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 4, QUEUE_ROOM = 32, CACHE_SLOTS = 64, STAGES = 3, PIPE_ROOM = 4 };

struct job;
typedef uint64_t work(struct job *);

struct job {
    work *run;
    uint64_t input, result;
    size_t size;
    unsigned char *data;
    struct batch *batch;
    struct job *next;
};

/* Jobs that somebody waits for together. */
struct batch {
    pthread_mutex_t lock;
    pthread_cond_t done;
    int left;
    uint64_t sum;
    struct job *finished;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full;
    struct job *queue[QUEUE_ROOM];
    int head, count, waiting_makers;
    int closed;
    pthread_t workers[WORKERS];
    int started;
};

static struct pool pool;
static atomic_ulong jobs_done, overflowed, cache_wrong;
static _Thread_local struct {
    int worker;
    unsigned long jobs;
    unsigned char room[512];
} scratch = {-1, 0, {0}};

static void check(int failed, const char *what) {
    if (failed) {
        fprintf(stderr, "%s failed\n", what);
        exit(99);
    }
}

static uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void batch_start(struct batch *b) {
    memset(b, 0, sizeof *b);
    check(pthread_mutex_init(&b->lock, NULL), "mutex");
    check(pthread_cond_init(&b->done, NULL), "condition");
}

static void batch_expect(struct batch *b, int jobs) {
    pthread_mutex_lock(&b->lock);
    b->left += jobs;
    pthread_mutex_unlock(&b->lock);
}

static void batch_finish(struct job *j) {
    struct batch *b = j->batch;
    pthread_mutex_lock(&b->lock);
    b->sum += j->result;
    j->next = b->finished;
    b->finished = j;
    if (--b->left == 0) pthread_cond_broadcast(&b->done);
    pthread_mutex_unlock(&b->lock);
}

static uint64_t batch_wait(struct batch *b) {
    pthread_mutex_lock(&b->lock);
    while (b->left) pthread_cond_wait(&b->done, &b->lock);
    uint64_t sum = b->sum;
    struct job *j = b->finished;
    b->finished = NULL;
    pthread_mutex_unlock(&b->lock);
    while (j) {
        struct job *next = j->next;
        free(j->data);
        free(j);
        j = next;
    }
    pthread_cond_destroy(&b->done);
    pthread_mutex_destroy(&b->lock);
    return sum;
}

static void run_job(struct job *j) {
    j->result = j->run(j);
    scratch.jobs++;
    atomic_fetch_add(&jobs_done, 1);
    batch_finish(j);
}

/* A worker that finds the queue full runs the job itself: all may make jobs, and none waits for room. */
static void submit(struct job *j, int may_wait) {
    pthread_mutex_lock(&pool.lock);
    while (pool.count == QUEUE_ROOM && may_wait) pthread_cond_wait(&pool.not_full, &pool.lock);
    if (pool.count == QUEUE_ROOM) {
        pthread_mutex_unlock(&pool.lock);
        atomic_fetch_add(&overflowed, 1);
        run_job(j);
        return;
    }
    pool.queue[(pool.head + pool.count++) % QUEUE_ROOM] = j;
    pthread_cond_signal(&pool.not_empty);
    pthread_mutex_unlock(&pool.lock);
}

static struct job *take(void) {
    struct job *j = NULL;
    pthread_mutex_lock(&pool.lock);
    while (!pool.count && !pool.closed) pthread_cond_wait(&pool.not_empty, &pool.lock);
    if (pool.count) {
        j = pool.queue[pool.head];
        pool.head = (pool.head + 1) % QUEUE_ROOM;
        pool.count--;
        pthread_cond_signal(&pool.not_full);
    }
    pthread_mutex_unlock(&pool.lock);
    return j;
}

static void *worker(void *argument) {
    scratch.worker = (int)(intptr_t)argument;
    struct job *j;
    while ((j = take())) run_job(j);
    return (void *)(uintptr_t)scratch.jobs;
}

static void pool_start(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.not_empty, NULL);
    pthread_cond_init(&pool.not_full, NULL);
    for (int i = 0; i < WORKERS; i++)
        check(pthread_create(&pool.workers[i], NULL, worker, (void *)(intptr_t)i), "thread");
    pool.started = WORKERS;
}

static unsigned long pool_stop(void) {
    unsigned long total = 0;
    pthread_mutex_lock(&pool.lock);
    pool.closed = 1;
    pthread_cond_broadcast(&pool.not_empty);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < pool.started; i++) {
        void *jobs;
        pthread_join(pool.workers[i], &jobs);
        total += (unsigned long)(uintptr_t)jobs;
    }
    return total;
}

static struct job *new_job(struct batch *b, work *run, uint64_t input) {
    struct job *j = calloc(1, sizeof *j);
    check(!j, "memory");
    j->run = run;
    j->input = input;
    j->batch = b;
    return j;
}

/* Work: counting primes in a range. */
static uint64_t primes(struct job *j) {
    uint64_t found = 0;
    for (uint64_t n = j->input; n < j->input + j->size; n++) {
        int prime = n > 1;
        for (uint64_t d = 2; d * d <= n && prime; d++) prime = n % d != 0;
        found += (uint64_t)prime;
    }
    return found;
}

/* Work: a checksum over a block, made in the thread's own room. */
static uint64_t checksum(struct job *j) {
    uint64_t sum = j->input;
    for (size_t at = 0; at < j->size; at += sizeof scratch.room) {
        size_t n = j->size - at < sizeof scratch.room ? j->size - at : sizeof scratch.room;
        memcpy(scratch.room, j->data + at, n);
        for (size_t i = 0; i < n; i++) scratch.room[i] ^= (unsigned char)(at + i);
        for (size_t i = 0; i < n; i++) sum = mix(sum + scratch.room[i]);
    }
    return sum;
}

/* Work that makes work: a tree of jobs, each the sum of its leaves. */
static uint64_t tree(struct job *j) {
    if (j->size == 0) return mix(j->input) >> 40;
    batch_expect(j->batch, 2);
    for (uint64_t i = 0; i < 2; i++) {
        struct job *child = new_job(j->batch, tree, j->input * 2 + i);
        child->size = j->size - 1;
        submit(child, 0);
    }
    return 1;
}

/* Work: sorting, with a comparison that qsort calls. */
static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t sorting(struct job *j) {
    uint32_t numbers[64];
    for (uint32_t i = 0; i < 64; i++) numbers[i] = (uint32_t)mix(j->input * 64 + i);
    qsort(numbers, 64, sizeof *numbers, by_value);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 64; i++) {
        sum = sum * 31 + numbers[i];
        if (i && numbers[i - 1] > numbers[i]) return 0;
    }
    return sum;
}

/* A cache shared by all: values depend on keys alone, whoever puts them in. */
static struct {
    pthread_rwlock_t lock;
    struct { uint64_t key, value; int full; } slots[CACHE_SLOTS];
} cache = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static uint64_t expensive(uint64_t key) {
    uint64_t v = key;
    for (int i = 0; i < 50; i++) v = mix(v + (uint64_t)i);
    return v;
}

static uint64_t cached(uint64_t key) {
    unsigned slot = (unsigned)(mix(key) % CACHE_SLOTS);
    uint64_t value = 0;
    int hit = 0;
    pthread_rwlock_rdlock(&cache.lock);
    if (cache.slots[slot].full && cache.slots[slot].key == key) {
        value = cache.slots[slot].value;
        hit = 1;
    }
    pthread_rwlock_unlock(&cache.lock);
    if (hit) return value;
    value = expensive(key);
    pthread_rwlock_wrlock(&cache.lock);
    cache.slots[slot].key = key;
    cache.slots[slot].value = value;
    cache.slots[slot].full = 1;
    pthread_rwlock_unlock(&cache.lock);
    return value;
}

static uint64_t lookups(struct job *j) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 60; i++) {
        uint64_t key = (j->input * 7 + i * i) % 90, value = cached(key);
        if (value != expensive(key)) atomic_fetch_add(&cache_wrong, 1);
        sum += value >> 32;
    }
    return sum;
}

/* A pipeline: each stage a thread, with a bounded pipe before it. */
struct pipe {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t items[PIPE_ROOM];
    int head, count, ended;
};

struct stage {
    struct pipe *in, *out;
    uint64_t (*change)(uint64_t);
};

static struct pipe pipes[STAGES + 1];

static void pipe_put(struct pipe *p, uint64_t v) {
    pthread_mutex_lock(&p->lock);
    while (p->count == PIPE_ROOM) pthread_cond_wait(&p->moved, &p->lock);
    p->items[(p->head + p->count++) % PIPE_ROOM] = v;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
}

static void pipe_end(struct pipe *p) {
    pthread_mutex_lock(&p->lock);
    p->ended = 1;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
}

static int pipe_take(struct pipe *p, uint64_t *v) {
    pthread_mutex_lock(&p->lock);
    while (!p->count && !p->ended) pthread_cond_wait(&p->moved, &p->lock);
    int got = p->count > 0;
    if (got) {
        *v = p->items[p->head];
        p->head = (p->head + 1) % PIPE_ROOM;
        p->count--;
        pthread_cond_broadcast(&p->moved);
    }
    pthread_mutex_unlock(&p->lock);
    return got;
}

static uint64_t plus(uint64_t x) { return x * 3 + 1; }
static uint64_t scramble(uint64_t x) { return mix(x) >> 8; }
static uint64_t cut(uint64_t x) { return x % 100000; }
static uint64_t (*const changes[STAGES])(uint64_t) = {plus, scramble, cut};

static void *stage(void *argument) {
    struct stage *s = argument;
    uint64_t v, passed = 0;
    while (pipe_take(s->in, &v)) {
        pipe_put(s->out, s->change(v));
        passed++;
    }
    pipe_end(s->out);
    return (void *)(uintptr_t)passed;
}

static void *feed(void *argument) {
    for (uint64_t i = 0; i < (uint64_t)(uintptr_t)argument; i++) pipe_put(&pipes[0], i);
    pipe_end(&pipes[0]);
    return NULL;
}

static void pipeline(int items) {
    pthread_t threads[STAGES + 1];
    struct stage stages[STAGES];
    for (int i = 0; i <= STAGES; i++) {
        pthread_mutex_init(&pipes[i].lock, NULL);
        pthread_cond_init(&pipes[i].moved, NULL);
    }
    for (int i = 0; i < STAGES; i++) {
        stages[i] = (struct stage){&pipes[i], &pipes[i + 1], changes[i]};
        check(pthread_create(&threads[i], NULL, stage, &stages[i]), "stage");
    }
    check(pthread_create(&threads[STAGES], NULL, feed, (void *)(uintptr_t)items), "feed");
    uint64_t v, order = 0;
    int count = 0, right = 0;
    while (pipe_take(&pipes[STAGES], &v)) {
        right += v == cut(scramble(plus((uint64_t)count)));
        order = order * 31 + v;
        count++;
    }
    printf("pipeline %d %d %llx", count, right, (unsigned long long)order);
    for (int i = 0; i <= STAGES; i++) {
        void *passed;
        pthread_join(threads[i], &passed);
        printf(" %lu", (unsigned long)(uintptr_t)passed);
    }
    printf("\n");
}

static uint64_t all_of(const char *name, work *run, int jobs, size_t size) {
    struct batch b;
    batch_start(&b);
    batch_expect(&b, jobs);
    for (int i = 0; i < jobs; i++) {
        struct job *j = new_job(&b, run, (uint64_t)i * (run == primes ? size : 1) + (run == tree));
        j->size = size;
        if (run == checksum) {
            j->data = malloc(size);
            for (size_t k = 0; k < size; k++) j->data[k] = (unsigned char)mix(k + (uint64_t)i);
        }
        submit(j, 1);
    }
    uint64_t sum = batch_wait(&b);
    printf("%s %d %llx\n", name, jobs, (unsigned long long)sum);
    return sum;
}

int main(void) {
    pool_start();
    uint64_t sum = all_of("primes", primes, 40, 100);
    sum = mix(sum + all_of("checksum", checksum, 25, 1500));
    sum = mix(sum + all_of("tree", tree, 3, 6));
    sum = mix(sum + all_of("sorting", sorting, 30, 0));
    sum = mix(sum + all_of("lookups", lookups, 30, 0));
    pipeline(200);
    unsigned long by_workers = pool_stop(), all = atomic_load(&jobs_done);
    printf("%lu jobs, %d by workers, cache wrong %lu\n", all, by_workers == all, atomic_load(&cache_wrong));
    printf("%llx %d %lu\n", (unsigned long long)sum, scratch.worker, scratch.jobs);
    return (int)(sum % 100);
}
