/* One epoll loop of the floor: its connections, and what the modes do with their bytes. */
#ifndef FLOOR_LOOP_H
#define FLOOR_LOOP_H

#include "../common/common.h"
#include "../common/pending.h"

#include <stdint.h>

enum {
    READ_BYTES = 64 * 1024,      /* one receive; also gnet's and this project's default */
    EVENTS = 1024,               /* a batch of epoll_wait */
    HIGH_WATER = 1024 * 1024,    /* broadcast: with this much unsent to one, nobody is read */
    EDGE_READS = 16,             /* edge-triggered: then the other connections have a turn */
};

struct connection {
    int fd;
    uint32_t watched;       /* the events that epoll knows */
    uint32_t index;         /* broadcast: place in loop->connections */
    bool input_ended;       /* the other side will send no more: close when all is sent */
    bool dead;              /* broadcast: a send failed, its own event will close it */
    bool paused;            /* broadcast: not read while others are congested */
    bool congested;         /* broadcast: HIGH_WATER or more unsent */
    struct pending output;  /* what the socket did not take */
    struct pending input;   /* http: a head of which the rest has not come */
};

struct loop {
    int epoll;
    int listener;
    bool edge;
    bool accepts;           /* false while there are no descriptors left */
    /* What to do with bytes that came; false closes the connection. */
    bool (*received)(struct loop *, struct connection *, char *bytes, size_t length);
    /* Broadcast only. */
    bool broadcasts;
    struct connection **connections;
    size_t count, capacity;
    size_t congested;       /* connections with HIGH_WATER or more unsent */
    bool has_paused;        /* some connections are not read for that */
    char *buffer;           /* READ_BYTES: one for all */
};

void serve_streams(const struct options *options, int listener);
void serve_datagrams(const struct options *options, int socket);
bool http_received(struct loop *, struct connection *, char *bytes, size_t length);

/* Sends what the socket takes and keeps the rest. False: the connection is lost. */
bool send_or_keep(struct loop *, struct connection *, char *bytes, size_t length);

#endif
