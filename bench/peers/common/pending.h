/* Bytes that wait: to be sent, or for the rest of a head. Memory is held only while there are some. */
#ifndef PEERS_PENDING_H
#define PEERS_PENDING_H

#include "common.h"

#include <stdlib.h>
#include <string.h>

struct pending {
    char *bytes;
    size_t start, end, capacity; /* start <= end <= capacity */
};

static inline size_t pending_length(const struct pending *pending) {
    return pending->end - pending->start;
}

static inline const char *pending_bytes(const struct pending *pending) {
    return pending->bytes + pending->start;
}

static inline void pending_clear(struct pending *pending) {
    free(pending->bytes);
    *pending = (struct pending){0};
}

static inline void pending_take(struct pending *pending, size_t length) {
    pending->start += length;
    if (pending->start == pending->end)
        pending_clear(pending);
}

static inline void pending_add(struct pending *pending, const char *bytes, size_t length) {
    if (pending->capacity - pending->end < length) {
        size_t kept = pending_length(pending);
        if (pending->start)
            memmove(pending->bytes, pending->bytes + pending->start, kept);
        pending->start = 0;
        pending->end = kept;
        if (pending->capacity - kept < length) {
            pending->capacity = (kept + length) * 2;
            pending->bytes = must_resize(pending->bytes, pending->capacity);
        }
    }
    if (length)
        memcpy(pending->bytes + pending->end, bytes, length);
    pending->end += length;
}

#endif
