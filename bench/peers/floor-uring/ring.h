/* A ring and its provided buffers, as the three servers of this program use them. */
#ifndef FLOOR_URING_RING_H
#define FLOOR_URING_RING_H

#include "../common/common.h"
#include "../common/pending.h"

#include <errno.h>
#include <liburing.h>
#include <stdint.h>

/* What a completion is about, in the low bits of user_data; the rest is a pointer or a number. */
enum operation { OP_ACCEPT, OP_RECEIVE, OP_SEND, OP_SEND_KEPT, OP_IGNORE, OP_MASK = 7 };

/* A group of buffers that receives choose from, in the order in which they came back: so it has
 * to be small to stay in the cache. */
struct pool {
    struct io_uring_buf_ring *ring;
    char *memory;
    size_t stride;      /* from one buffer to the next */
    unsigned size;      /* bytes a receive may put into one */
    unsigned count;
    unsigned free;
    unsigned returned;  /* since the kernel was last told */
    unsigned short group;
    unsigned short first; /* its smallest buffer id: ids are unique over the pools of a ring */
};

void ring_open(struct io_uring *ring, unsigned submissions, unsigned completions);
void pool_open(struct pool *pool, struct io_uring *ring, unsigned short group,
               unsigned short first, unsigned count, unsigned size, unsigned gap);

/* The ring waits for a blocking socket; on the other kind it would answer EAGAIN now and then. */
void make_blocking(int socket);

static inline char *pool_buffer(struct pool *pool, unsigned id) {
    return pool->memory + (id - pool->first) * pool->stride;
}

static inline void pool_return(struct pool *pool, unsigned id) {
    int mask = io_uring_buf_ring_mask(pool->count);
    io_uring_buf_ring_add(pool->ring, pool_buffer(pool, id), pool->size, id, mask,
                          pool->returned++);
    pool->free++;
}

/* One store for all that came back in a turn. */
static inline void pool_publish(struct pool *pool) {
    if (pool->returned)
        io_uring_buf_ring_advance(pool->ring, pool->returned);
    pool->returned = 0;
}

/* A receive that found no buffer waits until a good part is back: else it would spin. */
static inline bool pool_has_plenty(const struct pool *pool) {
    return pool->free >= pool->count / 2;
}

struct io_uring_sqe *ring_entry(struct io_uring *ring);

static inline void entry_tag(struct io_uring_sqe *entry, void *data, enum operation operation) {
    io_uring_sqe_set_data64(entry, (uintptr_t)data | operation);
}

static inline void *completion_data(const struct io_uring_cqe *completion) {
    return (void *)(uintptr_t)(completion->user_data & ~(uint64_t)OP_MASK);
}

static inline enum operation completion_operation(const struct io_uring_cqe *completion) {
    return completion->user_data & OP_MASK;
}

void submit_and_wait(struct io_uring *ring, bool waits);
void submit_accept(struct io_uring *ring, int listener);
void submit_receive(struct io_uring *ring, int fd, struct pool *pool, void *data);
void submit_cancel_receive(struct io_uring *ring, void *data);

/* Accept goes on, or waits for a descriptor. Gives the descriptor, or -1. */
int accepted(struct io_uring *ring, int listener, const struct io_uring_cqe *completion,
             bool *waits);

void serve_echo(const struct options *options, int listener);
void serve_broadcast(const struct options *options, int listener);
void serve_datagrams(const struct options *options, int socket);

#endif
