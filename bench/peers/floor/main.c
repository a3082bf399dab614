/* The floor: what a server costs that has no framework at all. */
#include "loop.h"

#include <string.h>

static void serve(const struct options *options, int socket) {
    if (!strcmp(options->mode, "udp"))
        serve_datagrams(options, socket);
    else
        serve_streams(options, socket);
}

int main(int count, char **arguments) {
    static const struct program program = {
        .version = "floor: epoll, gcc " __VERSION__,
        .modes = "echo udp http broadcast",
        .takes_threads = true,
        .takes_edge = true,
        .takes_offload = true,
        .serve = serve,
    };
    program_main(&program, count, arguments);
}
