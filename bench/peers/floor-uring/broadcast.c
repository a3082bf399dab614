/* Broadcast: all that came in a turn is one batch, and each connection is sent it by one operation
 * that does not wait and tells only of failure. So a turn costs one completion a message.
 *
 *     turn: submit the sends of `current` -> completions: what a socket did not take is copied,
 *           what came goes to `next` -> the buffers of `current` go back -> next becomes current
 */
#define _GNU_SOURCE
#include "ring.h"

#include <unistd.h>

enum {
    COUNT = 256,
    BYTES = 4096,
    HIGH_WATER = 1024 * 1024, /* with this much unsent to one, nobody is read */
    COMPLETIONS_AT_ONCE = 256,
};

struct connection {
    int fd;
    uint32_t index;
    bool receiving, sending;
    bool paused, starving, congested;
    bool keeps;             /* kept or flying holds what it has not taken */
    bool ended, failed, listed;
    struct pending kept;    /* not yet handed to the kernel: may grow */
    struct pending flying;  /* handed to the kernel */
};

struct batch {
    struct iovec vectors[COUNT];
    uint16_t ids[COUNT];
    unsigned count;
    struct msghdr header;   /* of all the sends of the batch */
};

struct list {
    struct connection **items;
    size_t count, capacity;
};

struct broadcast {
    struct io_uring ring;
    struct pool pool;
    struct batch batches[2];
    struct batch *current, *next;
    struct list all;        /* who is sent to */
    struct list over;       /* to be freed when no completion can name them */
    size_t congested;
    bool has_paused, has_starving;
    int listener;
    bool accept_waits;
};

static void list_add(struct list *list, struct connection *connection) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 1024;
        list->items = must_resize(list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = connection;
}

static void unlist(struct broadcast *all, struct connection *connection) {
    if (!connection->listed)
        return;
    connection->listed = false;
    struct connection *last = all->all.items[--all->all.count];
    all->all.items[connection->index] = last;
    last->index = connection->index;
}

static void receive(struct broadcast *all, struct connection *connection) {
    submit_receive(&all->ring, connection->fd, &all->pool, connection);
    connection->receiving = true;
}

static size_t unsent(const struct connection *connection) {
    return pending_length(&connection->kept) + pending_length(&connection->flying);
}

static void update_congestion(struct broadcast *all, struct connection *connection) {
    size_t bytes = unsent(connection);
    if (!connection->congested && bytes >= HIGH_WATER) {
        connection->congested = true;
        all->congested++;
    } else if (connection->congested && bytes < HIGH_WATER / 2) {
        connection->congested = false;
        all->congested--;
    }
}

static void send_kept(struct broadcast *all, struct connection *connection) {
    if (!pending_length(&connection->flying)) {
        connection->flying = connection->kept;
        connection->kept = (struct pending){0};
    }
    struct io_uring_sqe *entry = ring_entry(&all->ring);
    io_uring_prep_send(entry, connection->fd, pending_bytes(&connection->flying),
                       pending_length(&connection->flying), MSG_WAITALL | MSG_NOSIGNAL);
    entry_tag(entry, connection, OP_SEND_KEPT);
    connection->sending = true;
}

static void send_batch(struct broadcast *all, struct connection *connection) {
    struct batch *batch = all->current;
    int flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL; /* WAITALL: less is a failure */
    struct io_uring_sqe *entry = ring_entry(&all->ring);
    if (batch->count == 1)
        io_uring_prep_send(entry, connection->fd, batch->vectors[0].iov_base,
                           batch->vectors[0].iov_len, flags);
    else
        io_uring_prep_sendmsg(entry, connection->fd, &batch->header, flags);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry_tag(entry, connection, OP_SEND);
}

static void keep_batch(struct broadcast *all, struct connection *connection, size_t sent) {
    struct batch *batch = all->current;
    for (unsigned i = 0; i < batch->count; i++) {
        size_t length = batch->vectors[i].iov_len, skipped = sent < length ? sent : length;
        pending_add(&connection->kept, (char *)batch->vectors[i].iov_base + skipped,
                    length - skipped);
        sent -= skipped;
    }
    update_congestion(all, connection);
}

static void close_when_done(struct broadcast *all, struct connection *connection) {
    if (connection->failed) {
        unlist(all, connection);
        pending_clear(&connection->kept);
        if (connection->receiving || connection->sending)
            shutdown(connection->fd, SHUT_RDWR); /* ends what is in flight */
    } else if (connection->ended && !connection->keeps) {
        unlist(all, connection);
    }
    if (!connection->listed && !connection->receiving && !connection->sending &&
        connection->fd >= 0) {
        close(connection->fd);
        connection->fd = -1;
        pending_clear(&connection->kept);
        pending_clear(&connection->flying);
        update_congestion(all, connection);
        list_add(&all->over, connection);
        if (all->accept_waits)
            submit_accept(&all->ring, all->listener);
        all->accept_waits = false;
    }
}

static void on_received(struct broadcast *all, struct connection *connection,
                        const struct io_uring_cqe *completion) {
    int result = completion->res;
    connection->receiving = completion->flags & IORING_CQE_F_MORE;
    if (result > 0) {
        struct batch *batch = all->next;
        unsigned id = completion->flags >> IORING_CQE_BUFFER_SHIFT;
        all->pool.free--;
        batch->ids[batch->count] = id;
        batch->vectors[batch->count++] = (struct iovec){pool_buffer(&all->pool, id), result};
        if (all->congested && connection->receiving)
            submit_cancel_receive(&all->ring, connection);
    } else if (result == 0) {
        connection->ended = true;
    } else if (result == -ENOBUFS) {
        connection->starving = all->has_starving = true;
    } else if (result != -ECANCELED && result != -EAGAIN && result != -EINTR) {
        connection->failed = true;
    }
    if (!connection->receiving && !connection->ended && !connection->failed &&
        !connection->starving) {
        if (all->congested)
            connection->paused = all->has_paused = true;
        else
            receive(all, connection);
    }
    close_when_done(all, connection);
}

/* Only of what did not go, or not whole. */
static void on_send_failed(struct broadcast *all, struct connection *connection, int result) {
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
        connection->failed = true;
    } else if (!connection->failed && connection->fd >= 0) {
        keep_batch(all, connection, result > 0 ? result : 0);
        connection->keeps = true;
        send_kept(all, connection);
    }
    close_when_done(all, connection);
}

static void on_kept_sent(struct broadcast *all, struct connection *connection, int result) {
    connection->sending = false;
    if (result > 0)
        pending_take(&connection->flying, result);
    else if (result != -EAGAIN && result != -EINTR)
        connection->failed = true;
    if (!connection->failed) {
        connection->keeps = unsent(connection) > 0;
        if (connection->keeps)
            send_kept(all, connection);
    }
    update_congestion(all, connection);
    close_when_done(all, connection);
}

static void on_accepted(struct broadcast *all, const struct io_uring_cqe *completion) {
    int fd = accepted(&all->ring, all->listener, completion, &all->accept_waits);
    if (fd < 0)
        return;
    struct connection *connection = must_allocate(sizeof *connection);
    *connection = (struct connection){.fd = fd, .index = all->all.count, .listed = true};
    list_add(&all->all, connection);
    receive(all, connection);
}

static void take_completions(struct broadcast *all) {
    struct io_uring_cqe *completions[COMPLETIONS_AT_ONCE];
    unsigned count;
    while ((count = io_uring_peek_batch_cqe(&all->ring, completions, COMPLETIONS_AT_ONCE))) {
        for (unsigned i = 0; i < count; i++) {
            struct connection *connection = completion_data(completions[i]);
            enum operation operation = completion_operation(completions[i]);
            if (operation == OP_ACCEPT)
                on_accepted(all, completions[i]);
            else if (operation == OP_RECEIVE)
                on_received(all, connection, completions[i]);
            else if (operation == OP_SEND)
                on_send_failed(all, connection, completions[i]->res);
            else if (operation == OP_SEND_KEPT)
                on_kept_sent(all, connection, completions[i]->res);
        }
        io_uring_cq_advance(&all->ring, count);
    }
}

static void resume(struct broadcast *all) {
    bool paused = all->has_paused && !all->congested;
    bool starving = all->has_starving && pool_has_plenty(&all->pool);
    for (size_t i = 0; (paused || starving) && i < all->all.count; i++) {
        struct connection *connection = all->all.items[i];
        if ((connection->paused && paused) || (connection->starving && starving)) {
            connection->paused = connection->starving = false;
            receive(all, connection);
        }
    }
    all->has_paused = all->has_paused && !paused;
    all->has_starving = all->has_starving && !starving;
}

static void finish_turn(struct broadcast *all) {
    struct batch *done = all->current;
    for (unsigned i = 0; i < done->count; i++)
        pool_return(&all->pool, done->ids[i]);
    done->count = 0;
    for (size_t i = 0; i < all->over.count; i++)
        free(all->over.items[i]);
    all->over.count = 0;
    all->current = all->next;
    all->next = done;
    struct batch *batch = all->current;
    batch->header = (struct msghdr){.msg_iov = batch->vectors, .msg_iovlen = batch->count};
    for (size_t i = 0; batch->count && i < all->all.count; i++) {
        struct connection *connection = all->all.items[i];
        if (connection->keeps)
            keep_batch(all, connection, 0);
        else
            send_batch(all, connection);
    }
    resume(all);
    pool_publish(&all->pool);
}

void serve_broadcast(const struct options *options, int listener) {
    (void)options;
    struct broadcast *all = must_allocate(sizeof *all);
    *all = (struct broadcast){.listener = listener};
    all->current = &all->batches[0];
    all->next = &all->batches[1];
    ring_open(&all->ring, 1024, 4096);
    pool_open(&all->pool, &all->ring, 0, 0, COUNT, BYTES, 0);
    make_blocking(listener);
    submit_accept(&all->ring, listener);
    for (;;) {
        /* Those without a buffer wait for the buffers of this very turn: nothing else may come. */
        submit_and_wait(&all->ring, !all->has_starving);
        take_completions(all);
        /* Failures that the completion queue had no room for count to this turn too. */
        while (io_uring_cq_has_overflow(&all->ring)) {
            io_uring_get_events(&all->ring);
            take_completions(all);
        }
        finish_turn(all);
    }
}
