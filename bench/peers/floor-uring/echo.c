/* Echo: a multishot receive fills a provided buffer, and the answer is sent from that buffer.
 *
 *     receiving --CQE--> queued buffers --send, do not wait--> all taken: the buffer goes back
 *         ^                                       |
 *         |                                 not all taken: the rest is copied, the buffers
 *         '------- all of the copy sent <--- go back, no more is received
 *
 * So a reader that is slow pins no buffer of the pool that all share.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <unistd.h>

enum {
    NONE = 0xffff,
    SMALL_COUNT = 256,
    SMALL_BYTES = 4096,
    BULK_COUNT = 16,
    BULK_BYTES = 64 * 1024,
    FULL_BEFORE_BULK = 2,   /* full small buffers in a row: it streams */
    THIN_BEFORE_SMALL = 64, /* nearly empty bulk buffers in a row: it does no longer */
    COMPLETIONS_AT_ONCE = 256,
};

struct connection {
    struct connection *next_starving;
    int fd;
    uint16_t first, last;       /* queue of received buffers, the first is being sent */
    uint8_t full, thin;
    bool bulk;
    bool receiving, sending;    /* an operation is in flight */
    bool starving;
    bool keeps;                 /* kept or flying holds what a slow reader has not taken */
    bool ended, failed;
    struct pending kept;        /* not yet handed to the kernel: may grow */
    struct pending flying;      /* handed to the kernel */
};

struct queued {
    uint32_t length;
    uint16_t next;
    bool bulk;
};

struct echo {
    struct io_uring ring;
    struct pool small, bulk;
    struct queued queued[SMALL_COUNT + BULK_COUNT]; /* the ids of bulk come after those of small */
    struct connection *starving;
    int listener;
    bool accept_waits;
};

static struct pool *pool_of(struct echo *echo, unsigned id) {
    return id < SMALL_COUNT ? &echo->small : &echo->bulk;
}

static char *bytes_of(struct echo *echo, unsigned id) {
    return pool_buffer(pool_of(echo, id), id);
}

static void give_back(struct echo *echo, unsigned id) {
    pool_return(pool_of(echo, id), id);
}

static void send_first(struct echo *echo, struct connection *connection) {
    struct io_uring_sqe *entry = ring_entry(&echo->ring);
    unsigned id = connection->first;
    io_uring_prep_send(entry, connection->fd, bytes_of(echo, id), echo->queued[id].length,
                       MSG_DONTWAIT | MSG_NOSIGNAL);
    entry_tag(entry, connection, OP_SEND);
    connection->sending = true;
}

static void send_kept(struct echo *echo, struct connection *connection) {
    if (!pending_length(&connection->flying)) {
        connection->flying = connection->kept;
        connection->kept = (struct pending){0};
    }
    struct io_uring_sqe *entry = ring_entry(&echo->ring);
    io_uring_prep_send(entry, connection->fd, pending_bytes(&connection->flying),
                       pending_length(&connection->flying), MSG_WAITALL | MSG_NOSIGNAL);
    entry_tag(entry, connection, OP_SEND_KEPT);
    connection->sending = true;
}

static void drop_queue(struct echo *echo, struct connection *connection) {
    for (unsigned id = connection->first; id != NONE; id = echo->queued[id].next)
        give_back(echo, id);
    connection->first = connection->last = NONE;
}

static void receive(struct echo *echo, struct connection *connection) {
    struct pool *pool = connection->bulk ? &echo->bulk : &echo->small;
    submit_receive(&echo->ring, connection->fd, pool, connection);
    connection->receiving = true;
}

/* What is left to do with a connection after any of its completions. */
static void settle(struct echo *echo, struct connection *connection) {
    if (connection->failed) {
        if (!connection->sending)
            drop_queue(echo, connection);
        if (connection->receiving || connection->sending)
            shutdown(connection->fd, SHUT_RDWR); /* ends what is in flight */
    }
    if (connection->receiving || connection->sending || connection->starving)
        return;
    if (!connection->ended && !connection->failed) {
        if (!connection->keeps)
            receive(echo, connection);
        return;
    }
    close(connection->fd);
    pending_clear(&connection->kept);
    pending_clear(&connection->flying);
    free(connection);
    if (echo->accept_waits)
        submit_accept(&echo->ring, echo->listener);
    echo->accept_waits = false;
}

static void keep_queue(struct echo *echo, struct connection *connection, size_t sent) {
    for (unsigned id = connection->first; id != NONE; id = echo->queued[id].next) {
        pending_add(&connection->kept, bytes_of(echo, id) + sent, echo->queued[id].length - sent);
        sent = 0;
    }
    drop_queue(echo, connection);
    connection->keeps = true;
    if (connection->receiving)
        submit_cancel_receive(&echo->ring, connection);
    send_kept(echo, connection);
}

static void on_sent(struct echo *echo, struct connection *connection, int result) {
    connection->sending = false;
    unsigned id = connection->first;
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
        connection->failed = true;
    } else if (connection->failed) {
        /* settle drops the queue */
    } else if (result == (int)echo->queued[id].length) {
        connection->first = echo->queued[id].next;
        give_back(echo, id);
        if (connection->first != NONE)
            send_first(echo, connection);
        else
            connection->last = NONE;
    } else {
        keep_queue(echo, connection, result > 0 ? result : 0);
    }
    settle(echo, connection);
}

static void on_kept_sent(struct echo *echo, struct connection *connection, int result) {
    connection->sending = false;
    if (result > 0)
        pending_take(&connection->flying, result);
    else if (result != -EAGAIN && result != -EINTR)
        connection->failed = true;
    if (!connection->failed) {
        if (pending_length(&connection->flying) || pending_length(&connection->kept))
            send_kept(echo, connection);
        else
            connection->keeps = false;
    }
    settle(echo, connection);
}

/* Small traffic keeps to few hot bytes, a stream gets large buffers. */
static void choose_pool(struct echo *echo, struct connection *connection, unsigned length) {
    bool was_bulk = connection->bulk;
    if (was_bulk) {
        connection->thin = length < SMALL_BYTES ? connection->thin + 1 : 0;
        connection->bulk = connection->thin < THIN_BEFORE_SMALL;
    } else {
        connection->full = length == SMALL_BYTES ? connection->full + 1 : 0;
        connection->bulk = connection->full >= FULL_BEFORE_BULK;
    }
    if (connection->bulk == was_bulk)
        return;
    connection->full = connection->thin = 0;
    if (connection->receiving)
        submit_cancel_receive(&echo->ring, connection); /* settle starts it on the other pool */
}

static void on_bytes(struct echo *echo, struct connection *connection, unsigned id,
                     unsigned length) {
    pool_of(echo, id)->free--;
    if (connection->failed) {
        give_back(echo, id);
        return;
    }
    if (connection->keeps) {
        pending_add(&connection->kept, bytes_of(echo, id), length);
        give_back(echo, id);
        return;
    }
    echo->queued[id].length = length;
    echo->queued[id].next = NONE;
    if (connection->first == NONE) {
        connection->first = connection->last = id;
        send_first(echo, connection);
    } else {
        echo->queued[connection->last].next = id;
        connection->last = id;
    }
}

static void on_received(struct echo *echo, struct connection *connection,
                        const struct io_uring_cqe *completion) {
    int result = completion->res;
    connection->receiving = completion->flags & IORING_CQE_F_MORE;
    if (result > 0) {
        unsigned id = completion->flags >> IORING_CQE_BUFFER_SHIFT;
        on_bytes(echo, connection, id, result);
        choose_pool(echo, connection, result);
    } else if (result == 0) {
        connection->ended = true;
    } else if (result == -ENOBUFS) {
        connection->starving = true;
        connection->next_starving = echo->starving;
        echo->starving = connection;
    } else if (result != -ECANCELED && result != -EAGAIN && result != -EINTR) {
        connection->failed = true;
    }
    settle(echo, connection);
}

static void on_accepted(struct echo *echo, const struct io_uring_cqe *completion) {
    int fd = accepted(&echo->ring, echo->listener, completion, &echo->accept_waits);
    if (fd < 0)
        return;
    struct connection *connection = must_allocate(sizeof *connection);
    *connection = (struct connection){.fd = fd, .first = NONE, .last = NONE};
    receive(echo, connection);
}

static void feed_starving(struct echo *echo) {
    if (!echo->starving || !pool_has_plenty(&echo->small) || !pool_has_plenty(&echo->bulk))
        return;
    struct connection *connection = echo->starving;
    echo->starving = NULL;
    while (connection) {
        struct connection *next = connection->next_starving;
        connection->starving = false;
        settle(echo, connection);
        connection = next;
    }
}

static void on_completion(struct echo *echo, const struct io_uring_cqe *completion) {
    switch (completion_operation(completion)) {
    case OP_ACCEPT:
        on_accepted(echo, completion);
        break;
    case OP_RECEIVE:
        on_received(echo, completion_data(completion), completion);
        break;
    case OP_SEND:
        on_sent(echo, completion_data(completion), completion->res);
        break;
    case OP_SEND_KEPT:
        on_kept_sent(echo, completion_data(completion), completion->res);
        break;
    default:
        break;
    }
}

void serve_echo(const struct options *options, int listener) {
    (void)options;
    struct echo *echo = must_allocate(sizeof *echo);
    *echo = (struct echo){.listener = listener};
    ring_open(&echo->ring, 1024, 4096);
    pool_open(&echo->small, &echo->ring, 0, 0, SMALL_COUNT, SMALL_BYTES, 0);
    pool_open(&echo->bulk, &echo->ring, 1, SMALL_COUNT, BULK_COUNT, BULK_BYTES, 0);
    make_blocking(listener);
    submit_accept(&echo->ring, listener);
    for (;;) {
        submit_and_wait(&echo->ring, true);
        struct io_uring_cqe *completions[COMPLETIONS_AT_ONCE];
        unsigned count;
        while ((count = io_uring_peek_batch_cqe(&echo->ring, completions, COMPLETIONS_AT_ONCE))) {
            for (unsigned i = 0; i < count; i++)
                on_completion(echo, completions[i]);
            io_uring_cq_advance(&echo->ring, count);
        }
        feed_starving(echo);
        pool_publish(&echo->small);
        pool_publish(&echo->bulk);
    }
}
