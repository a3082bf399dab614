/* The floor for HTTP/1.1: finds the ends of heads and answers all of a receive with one send. */
#define _GNU_SOURCE
#include "loop.h"

enum { HEAD_BYTES = 8 * 1024 /* a longer head is refused; servers take 8 KiB by custom */ };

#define ANSWER \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
#define REFUSAL(status) "HTTP/1.1 " status "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

enum { ANSWER_BYTES = sizeof ANSWER - 1, BATCH = 256 };

static char answers[BATCH * ANSWER_BYTES];

__attribute__((constructor)) static void fill(void) {
    for (int i = 0; i < BATCH; i++)
        memcpy(answers + i * ANSWER_BYTES, ANSWER, ANSWER_BYTES);
}

static bool answer(struct loop *loop, struct connection *connection, size_t count) {
    for (size_t part; count; count -= part) {
        part = count < BATCH ? count : BATCH;
        if (!send_or_keep(loop, connection, answers, part * ANSWER_BYTES))
            return false;
    }
    return true;
}

static bool refuse(struct loop *loop, struct connection *connection, char *text) {
    send_or_keep(loop, connection, text, strlen(text));
    return false;
}

bool http_received(struct loop *loop, struct connection *connection, char *bytes, size_t length) {
    bool kept = pending_length(&connection->input) > 0;
    if (kept) {
        pending_add(&connection->input, bytes, length);
        bytes = (char *)pending_bytes(&connection->input);
        length = pending_length(&connection->input);
    }
    char *at = bytes, *end = bytes + length, *head_end;
    size_t count = 0;
    while ((head_end = memmem(at, end - at, "\r\n\r\n", 4))) {
        if (memcmp(at, "GET ", 4)) {
            answer(loop, connection, count);
            return refuse(loop, connection, REFUSAL("405 Method Not Allowed"));
        }
        count++;
        at = head_end + 4;
    }
    if (!answer(loop, connection, count))
        return false;
    if (end - at > HEAD_BYTES)
        return refuse(loop, connection, REFUSAL("431 Request Header Fields Too Large"));
    if (kept)
        pending_take(&connection->input, at - bytes);
    else if (at < end)
        pending_add(&connection->input, at, end - at);
    return true;
}
