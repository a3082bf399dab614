/* Datagrams: a multishot recvmsg fills buffers with address and bytes, and each is sent back from
 * the buffer in which it came. */
#define _GNU_SOURCE
#include "ring.h"

#include <netinet/in.h>

enum {
    COUNT = 256,
    PAYLOAD_BYTES = 64 * 1024,
    NAME_BYTES = sizeof(struct sockaddr_in6),
    BUFFER_BYTES = PAYLOAD_BYTES + 64, /* the kernel's header and the name stand before it */
    GAP_BYTES = 128 - 64, /* whole pages apart, all would fall into the same sets of the cache */
    COMPLETIONS_AT_ONCE = 256,
};

struct reply {
    struct msghdr header;
    struct iovec vector;
};

struct datagrams {
    struct io_uring ring;
    struct pool pool;
    struct msghdr shape; /* how much of a buffer is for the name */
    struct reply replies[COUNT];
    int socket;
    bool receiving;
};

static void receive(struct datagrams *all) {
    struct io_uring_sqe *entry = ring_entry(&all->ring);
    io_uring_prep_recvmsg_multishot(entry, all->socket, &all->shape, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = all->pool.group;
    entry_tag(entry, NULL, OP_RECEIVE);
    all->receiving = true;
}

static void answer(struct datagrams *all, unsigned id) {
    struct io_uring_sqe *entry = ring_entry(&all->ring);
    io_uring_prep_sendmsg(entry, all->socket, &all->replies[id].header, 0);
    entry_tag(entry, (void *)(uintptr_t)(id << 3), OP_SEND);
}

static void on_received(struct datagrams *all, const struct io_uring_cqe *completion) {
    all->receiving = completion->flags & IORING_CQE_F_MORE;
    if (!(completion->flags & IORING_CQE_F_BUFFER))
        return;
    unsigned id = completion->flags >> IORING_CQE_BUFFER_SHIFT;
    all->pool.free--;
    char *buffer = pool_buffer(&all->pool, id);
    struct io_uring_recvmsg_out *out = NULL;
    if (completion->res > 0)
        out = io_uring_recvmsg_validate(buffer, completion->res, &all->shape);
    if (!out) {
        pool_return(&all->pool, id);
        return;
    }
    struct reply *reply = &all->replies[id];
    reply->vector.iov_base = io_uring_recvmsg_payload(out, &all->shape);
    reply->vector.iov_len = io_uring_recvmsg_payload_length(out, completion->res, &all->shape);
    reply->header = (struct msghdr){
        .msg_name = io_uring_recvmsg_name(out),
        .msg_namelen = out->namelen,
        .msg_iov = &reply->vector,
        .msg_iovlen = 1,
    };
    answer(all, id);
}

void serve_datagrams(const struct options *options, int socket) {
    (void)options;
    struct datagrams *all = must_allocate(sizeof *all);
    *all = (struct datagrams){.socket = socket, .shape.msg_namelen = NAME_BYTES};
    ring_open(&all->ring, COUNT, COUNT * 4);
    pool_open(&all->pool, &all->ring, 0, 0, COUNT, BUFFER_BYTES, GAP_BYTES);
    make_blocking(socket);
    for (;;) {
        if (!all->receiving && pool_has_plenty(&all->pool))
            receive(all);
        submit_and_wait(&all->ring, true);
        struct io_uring_cqe *completions[COMPLETIONS_AT_ONCE];
        unsigned count;
        while ((count = io_uring_peek_batch_cqe(&all->ring, completions, COMPLETIONS_AT_ONCE))) {
            for (unsigned i = 0; i < count; i++) {
                if (completion_operation(completions[i]) == OP_RECEIVE)
                    on_received(all, completions[i]);
                else /* sent, or lost: a datagram may be */
                    pool_return(&all->pool, (completions[i]->user_data & ~(uint64_t)OP_MASK) >> 3);
            }
            io_uring_cq_advance(&all->ring, count);
        }
        pool_publish(&all->pool);
    }
}
