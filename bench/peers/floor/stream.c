/* The floor for streams: epoll_wait, one recv, one send, and nothing else on the way. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

static const uint32_t EDGE_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

static void control(struct loop *loop, int operation, int fd, uint32_t events, void *data) {
    struct epoll_event event = {.events = events, .data.ptr = data};
    if (epoll_ctl(loop->epoll, operation, fd, &event))
        fatal("epoll_ctl");
}

static void watch(struct loop *loop, struct connection *connection, uint32_t events) {
    if (loop->edge || connection->watched == events)
        return;
    connection->watched = events;
    control(loop, EPOLL_CTL_MOD, connection->fd, events, connection);
}

/* Echo reads nothing while its answer waits: that is its back-pressure. */
static void watch_what_it_needs(struct loop *loop, struct connection *connection) {
    bool writes = pending_length(&connection->output) > 0;
    bool reads = loop->broadcasts ? !connection->paused && !connection->input_ended : !writes;
    watch(loop, connection, (writes ? EPOLLOUT : 0u) | (reads ? EPOLLIN : 0u));
}

static void list_remove(struct loop *loop, struct connection *connection) {
    struct connection *last = loop->connections[--loop->count];
    loop->connections[connection->index] = last;
    last->index = connection->index;
}

static void list_add(struct loop *loop, struct connection *connection) {
    if (loop->count == loop->capacity) {
        loop->capacity = loop->capacity ? loop->capacity * 2 : 1024;
        size_t size = loop->capacity * sizeof *loop->connections;
        loop->connections = must_resize(loop->connections, size);
    }
    connection->index = loop->count;
    loop->connections[loop->count++] = connection;
}

static void congestion_update(struct loop *loop, struct connection *connection) {
    size_t unsent = pending_length(&connection->output);
    if (!connection->congested && unsent >= HIGH_WATER) {
        connection->congested = true;
        loop->congested++;
    } else if (connection->congested && unsent < HIGH_WATER / 2) {
        connection->congested = false;
        loop->congested--;
    }
    if (loop->congested || !loop->has_paused)
        return;
    loop->has_paused = false;
    for (size_t i = 0; i < loop->count; i++) {
        loop->connections[i]->paused = false;
        watch_what_it_needs(loop, loop->connections[i]);
    }
}

static void close_connection(struct loop *loop, struct connection *connection) {
    pending_clear(&connection->output);
    pending_clear(&connection->input);
    if (loop->broadcasts) {
        list_remove(loop, connection);
        congestion_update(loop, connection);
    }
    close(connection->fd);
    free(connection);
    if (!loop->accepts) {
        loop->accepts = true;
        control(loop, EPOLL_CTL_MOD, loop->listener, EPOLLIN, NULL);
    }
}

bool send_or_keep(struct loop *loop, struct connection *connection, char *bytes, size_t length) {
    ssize_t sent = 0;
    if (pending_length(&connection->output) == 0) {
        sent = send(connection->fd, bytes, length, MSG_NOSIGNAL);
        if (sent == (ssize_t)length)
            return true;
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent < 0)
            sent = 0;
    }
    pending_add(&connection->output, bytes + sent, length - sent);
    watch_what_it_needs(loop, connection);
    return true;
}

static bool flush(struct loop *loop, struct connection *connection) {
    size_t length = pending_length(&connection->output);
    ssize_t sent = send(connection->fd, pending_bytes(&connection->output), length, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    pending_take(&connection->output, sent);
    if (loop->broadcasts)
        congestion_update(loop, connection);
    watch_what_it_needs(loop, connection);
    return true;
}

static bool broadcast_received(struct loop *loop, struct connection *from, char *bytes,
                               size_t length) {
    (void)from;
    for (size_t i = 0; i < loop->count; i++) {
        struct connection *to = loop->connections[i];
        if (to->dead)
            continue;
        /* Not closed here: an event of this batch may still point to it. */
        to->dead = !send_or_keep(loop, to, bytes, length);
        if (to->dead)
            pending_clear(&to->output);
        congestion_update(loop, to);
    }
    return true;
}

/* False: to be closed. `more` says whether another receive may find something. */
static bool receive(struct loop *loop, struct connection *connection, bool *more) {
    ssize_t length = recv(connection->fd, loop->buffer, READ_BYTES, 0);
    *more = length == READ_BYTES;
    if (length > 0)
        return loop->received(loop, connection, loop->buffer, length);
    if (length < 0)
        return errno == EAGAIN || errno == EINTR;
    connection->input_ended = true;
    watch_what_it_needs(loop, connection);
    return pending_length(&connection->output) > 0;
}

static bool on_level(struct loop *loop, struct connection *connection, uint32_t events) {
    bool more;
    if (connection->dead || (connection->input_ended && events & (EPOLLHUP | EPOLLERR)))
        return false;
    if (pending_length(&connection->output)) {
        if (!flush(loop, connection))
            return false;
        if (connection->input_ended)
            return pending_length(&connection->output) > 0;
        if (!loop->broadcasts)
            return true;
    }
    if (!(events & ~(uint32_t)EPOLLOUT))
        return true;
    if (!loop->congested)
        return receive(loop, connection, &more);
    connection->paused = loop->has_paused = true;
    watch_what_it_needs(loop, connection);
    /* A connection that failed reports it for ever, watched or not. */
    return !(events & (EPOLLHUP | EPOLLERR));
}

static bool on_edge(struct loop *loop, struct connection *connection, uint32_t events) {
    if (pending_length(&connection->output)) {
        if (!flush(loop, connection))
            return false;
        if (pending_length(&connection->output))
            return true;
        events |= EPOLLRDHUP; /* what came meanwhile has had its edge */
    }
    /* After a short receive there is nothing, or the end that the event told. */
    bool more = true;
    bool until_end = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    for (int reads = 0; more && !pending_length(&connection->output); reads++) {
        if (reads == EDGE_READS) {
            control(loop, EPOLL_CTL_MOD, connection->fd, EDGE_EVENTS, connection);
            return true;
        }
        errno = 0;
        if (!receive(loop, connection, &more))
            return false;
        more = more || (until_end && errno != EAGAIN);
    }
    return true;
}

static void accept_one(struct loop *loop) {
    int fd = accept4(loop->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            loop->accepts = false;
            control(loop, EPOLL_CTL_MOD, loop->listener, 0, NULL);
        }
        return;
    }
    struct connection *connection = must_allocate(sizeof *connection);
    *connection = (struct connection){.fd = fd, .watched = loop->edge ? EDGE_EVENTS : EPOLLIN};
    control(loop, EPOLL_CTL_ADD, fd, connection->watched, connection);
    if (loop->broadcasts)
        list_add(loop, connection);
}

void serve_streams(const struct options *options, int listener) {
    struct loop loop = {
        .epoll = epoll_create1(EPOLL_CLOEXEC),
        .listener = listener,
        .edge = options->edge,
        .accepts = true,
        .received = send_or_keep,
        .buffer = must_allocate(READ_BYTES),
    };
    if (loop.epoll < 0)
        fatal("epoll");
    if (!strcmp(options->mode, "http"))
        loop.received = http_received;
    if (!strcmp(options->mode, "broadcast")) {
        loop.received = broadcast_received;
        loop.broadcasts = true;
        loop.edge = false; /* a pause of all readers needs events that stay */
    }
    control(&loop, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    struct epoll_event *events = must_allocate(EVENTS * sizeof *events);
    for (;;) {
        int count = epoll_wait(loop.epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            fatal("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            bool keep = true;
            if (!connection)
                accept_one(&loop);
            else if (loop.edge)
                keep = on_edge(&loop, connection, events[i].events);
            else
                keep = on_level(&loop, connection, events[i].events);
            if (!keep)
                close_connection(&loop, connection);
        }
    }
}
