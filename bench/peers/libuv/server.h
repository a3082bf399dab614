/* The peer libuv: one loop, its streams and its datagrams. */
#ifndef PEER_LIBUV_SERVER_H
#define PEER_LIBUV_SERVER_H

#include "../common/common.h"
#include "../common/pending.h"

#include <uv.h>

enum {
    BACKLOG = 65535, /* the kernel takes the smaller of this and somaxconn */
    READ_BYTES = 64 * 1024,
    HIGH_WATER = 1024 * 1024, /* broadcast: with this much unsent to one, nobody is read */
};

_Noreturn void uv_fatal(const char *what, int code);

void serve_datagrams(uv_loop_t *loop, const struct options *options);
void serve_streams(uv_loop_t *loop, const struct options *options);

#endif
