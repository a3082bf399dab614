/* Streams: libuv reads into one buffer, the answer is tried at once, and only what the socket does
 * not take becomes a write request with a copy; until it is done the connection is not read. */
#define _GNU_SOURCE
#include "server.h"

enum { HEAD_BYTES = 8 * 1024 /* a longer head is refused */ };

#define ANSWER \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
#define REFUSAL "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

struct connection {
    uv_tcp_t tcp;
    struct connection *previous, *next; /* broadcast: the ring of all */
    struct pending input;               /* http: a head of which the rest has not come */
    unsigned writes;                    /* write requests under way */
    bool ended;                         /* to be closed when all is written */
    bool paused;                        /* not read until its own, or for broadcast all, is written */
    bool congested;
};

struct write {
    uv_write_t request;
    char bytes[];
};

typedef void (*on_bytes)(struct connection *, char *bytes, size_t length);

static char buffer[READ_BYTES];
static on_bytes serve;
static bool broadcasts;
static struct connection all = {.previous = &all, .next = &all};
static size_t congested;
static bool has_paused;

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *given) {
    (void)handle;
    (void)suggested;
    *given = uv_buf_init(buffer, sizeof buffer);
}

static uv_stream_t *stream_of(struct connection *connection) {
    return (uv_stream_t *)&connection->tcp;
}

static void received(uv_stream_t *stream, ssize_t length, const uv_buf_t *given);

static void resume(struct connection *connection) {
    if (!connection->paused || connection->ended)
        return;
    connection->paused = false;
    uv_read_start(stream_of(connection), allocate, received);
}

static void pause_reading(struct connection *connection) {
    connection->paused = true;
    uv_read_stop(stream_of(connection));
}

static void update_congestion(struct connection *connection, bool is_closed) {
    size_t unsent = is_closed ? 0 : uv_stream_get_write_queue_size(stream_of(connection));
    if (!connection->congested && unsent >= HIGH_WATER) {
        connection->congested = true;
        congested++;
    } else if (connection->congested && unsent < HIGH_WATER / 2) {
        connection->congested = false;
        congested--;
    }
    if (congested || !has_paused)
        return;
    has_paused = false;
    for (struct connection *at = all.next; at != &all; at = at->next)
        resume(at);
}

static void closed(uv_handle_t *handle) {
    struct connection *connection = handle->data;
    pending_clear(&connection->input);
    free(connection);
}

static void close_connection(struct connection *connection) {
    if (uv_is_closing((uv_handle_t *)&connection->tcp))
        return;
    connection->previous->next = connection->next;
    connection->next->previous = connection->previous;
    if (broadcasts)
        update_congestion(connection, true);
    uv_close((uv_handle_t *)&connection->tcp, closed);
}

static void written(uv_write_t *request, int status) {
    struct connection *connection = request->handle->data;
    free(request->data);
    connection->writes--;
    if (status == UV_ECANCELED) /* it is being closed already */
        return;
    if (status < 0 || (connection->ended && !connection->writes)) {
        close_connection(connection);
        return;
    }
    if (broadcasts)
        update_congestion(connection, false);
    else if (!connection->writes)
        resume(connection);
}

static void send_bytes(struct connection *connection, char *bytes, size_t length) {
    uv_buf_t given = uv_buf_init(bytes, length);
    int sent = connection->writes ? 0 : uv_try_write(stream_of(connection), &given, 1);
    if (sent == (int)length)
        return;
    if (sent < 0 && sent != UV_EAGAIN) {
        close_connection(connection);
        return;
    }
    if (sent < 0)
        sent = 0;
    struct write *write = must_allocate(sizeof *write + length - sent);
    memcpy(write->bytes, bytes + sent, length - sent);
    write->request.data = write;
    given = uv_buf_init(write->bytes, length - sent);
    if (uv_write(&write->request, stream_of(connection), &given, 1, written)) {
        free(write);
        close_connection(connection);
        return;
    }
    connection->writes++;
    if (broadcasts)
        update_congestion(connection, false);
    else
        pause_reading(connection);
}

static void broadcast(struct connection *from, char *bytes, size_t length) {
    for (struct connection *at = all.next, *next; at != &all; at = next) {
        next = at->next;
        send_bytes(at, bytes, length);
    }
    if (congested && !uv_is_closing((uv_handle_t *)&from->tcp)) {
        pause_reading(from);
        has_paused = true;
    }
}

static void end(struct connection *connection) {
    connection->ended = true;
    uv_read_stop(stream_of(connection));
    if (!connection->writes)
        close_connection(connection);
}

static void answer_heads(struct connection *connection, char *bytes, size_t length) {
    static char answers[READ_BYTES];
    enum { ANSWER_BYTES = sizeof ANSWER - 1 };
    bool kept = pending_length(&connection->input) > 0;
    if (kept) {
        pending_add(&connection->input, bytes, length);
        bytes = (char *)pending_bytes(&connection->input);
        length = pending_length(&connection->input);
    }
    char *at = bytes, *last = bytes + length, *head_end;
    size_t filled = 0;
    bool refused = false;
    while (!refused && (head_end = memmem(at, last - at, "\r\n\r\n", 4))) {
        refused = memcmp(at, "GET ", 4) != 0;
        if (refused)
            break;
        memcpy(answers + filled, ANSWER, ANSWER_BYTES);
        filled += ANSWER_BYTES;
        at = head_end + 4;
        if (filled + ANSWER_BYTES > sizeof answers) {
            send_bytes(connection, answers, filled);
            filled = 0;
        }
    }
    if (filled)
        send_bytes(connection, answers, filled);
    if (refused || last - at > HEAD_BYTES) {
        send_bytes(connection, REFUSAL, sizeof REFUSAL - 1);
        end(connection);
    } else if (kept) {
        pending_take(&connection->input, at - bytes);
    } else if (at < last) {
        pending_add(&connection->input, at, last - at);
    }
}

static void received(uv_stream_t *stream, ssize_t length, const uv_buf_t *given) {
    struct connection *connection = stream->data;
    if (length > 0)
        serve(connection, given->base, length);
    else if (length == UV_EOF)
        end(connection);
    else if (length < 0)
        close_connection(connection);
}

static void accepted(uv_stream_t *listener, int status) {
    if (status < 0)
        return;
    struct connection *connection = must_allocate(sizeof *connection);
    *connection = (struct connection){.previous = &all, .next = all.next};
    all.next->previous = connection;
    all.next = connection;
    uv_tcp_init(listener->loop, &connection->tcp);
    connection->tcp.data = connection;
    if (uv_accept(listener, stream_of(connection)) ||
        uv_tcp_nodelay(&connection->tcp, 1) ||
        uv_read_start(stream_of(connection), allocate, received))
        close_connection(connection);
}

void serve_streams(uv_loop_t *loop, const struct options *options) {
    static uv_tcp_t listener;
    serve = send_bytes;
    if (!strcmp(options->mode, "http"))
        serve = answer_heads;
    broadcasts = !strcmp(options->mode, "broadcast");
    if (broadcasts)
        serve = broadcast;
    int code = uv_tcp_init(loop, &listener);
    if (!code)
        code = uv_tcp_bind(&listener, (const struct sockaddr *)&options->address, 0);
    if (!code)
        code = uv_listen((uv_stream_t *)&listener, BACKLOG, accepted);
    if (code)
        uv_fatal("cannot listen", code);
}
