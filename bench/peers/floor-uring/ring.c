/* Opens rings and pools and fills entries. */
#define _GNU_SOURCE
#include "ring.h"

#include <fcntl.h>
#include <sys/mman.h>

void make_blocking(int socket) {
    int flags = fcntl(socket, F_GETFL);
    if (flags < 0 || fcntl(socket, F_SETFL, flags & ~O_NONBLOCK))
        fatal("blocking socket");
}

void ring_open(struct io_uring *ring, unsigned submissions, unsigned completions) {
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = completions,
    };
    errno = -io_uring_queue_init_params(submissions, ring, &params);
    if (errno)
        fatal("io_uring (Linux 6.1 or newer, and allowed to this process)");
    if (io_uring_register_ring_fd(ring) != 1)
        fatal("registering the ring");
}

void pool_open(struct pool *pool, struct io_uring *ring, unsigned short group,
               unsigned short first, unsigned count, unsigned size, unsigned gap) {
    *pool = (struct pool){
        .stride = size + gap, .size = size, .count = count, .group = group, .first = first};
    size_t bytes = count * sizeof(struct io_uring_buf);
    int kind = MAP_PRIVATE | MAP_ANONYMOUS;
    pool->ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, kind, -1, 0);
    pool->memory = mmap(NULL, pool->stride * count, PROT_READ | PROT_WRITE, kind, -1, 0);
    if (pool->ring == MAP_FAILED || pool->memory == MAP_FAILED)
        fatal("memory");
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)pool->ring, .ring_entries = count, .bgid = group};
    errno = -io_uring_register_buf_ring(ring, &registration, 0);
    if (errno)
        fatal("registering buffers");
    io_uring_buf_ring_init(pool->ring);
    for (unsigned id = 0; id < count; id++)
        pool_return(pool, first + id);
    pool_publish(pool);
}

struct io_uring_sqe *ring_entry(struct io_uring *ring) {
    struct io_uring_sqe *entry;
    while (!(entry = io_uring_get_sqe(ring))) {
        int submitted = io_uring_submit(ring);
        errno = -submitted;
        if (submitted < 0 && errno != EINTR && errno != EBUSY && errno != EAGAIN)
            fatal("io_uring_enter");
        if (submitted < 0)
            io_uring_get_events(ring);
    }
    return entry;
}

void submit_and_wait(struct io_uring *ring, bool waits) {
    int result = waits ? io_uring_submit_and_wait(ring, 1) : io_uring_submit_and_get_events(ring);
    errno = -result;
    /* EBUSY and EAGAIN: completions have to be taken first, which is what comes next. */
    if (result < 0 && errno != EINTR && errno != EBUSY && errno != EAGAIN)
        fatal("io_uring_enter");
}

void submit_accept(struct io_uring *ring, int listener) {
    struct io_uring_sqe *entry = ring_entry(ring);
    /* Without SOCK_NONBLOCK, for the reason of make_blocking. */
    io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    entry_tag(entry, NULL, OP_ACCEPT);
}

void submit_receive(struct io_uring *ring, int fd, struct pool *pool, void *data) {
    struct io_uring_sqe *entry = ring_entry(ring);
    io_uring_prep_recv_multishot(entry, fd, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = pool->group;
    entry_tag(entry, data, OP_RECEIVE);
}

void submit_cancel_receive(struct io_uring *ring, void *data) {
    struct io_uring_sqe *entry = ring_entry(ring);
    io_uring_prep_cancel64(entry, (uintptr_t)data | OP_RECEIVE, 0);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry_tag(entry, NULL, OP_IGNORE);
}

int accepted(struct io_uring *ring, int listener, const struct io_uring_cqe *completion,
             bool *waits) {
    if (!(completion->flags & IORING_CQE_F_MORE)) {
        *waits = completion->res == -EMFILE || completion->res == -ENFILE;
        if (!*waits)
            submit_accept(ring, listener);
    }
    return completion->res < 0 ? -1 : completion->res;
}
