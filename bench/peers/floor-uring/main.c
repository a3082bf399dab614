/* The floor on io_uring: what a server costs that has no framework, by completions. */
#include "ring.h"

#include <string.h>

static void serve(const struct options *options, int socket) {
    if (!strcmp(options->mode, "echo"))
        serve_echo(options, socket);
    else if (!strcmp(options->mode, "broadcast"))
        serve_broadcast(options, socket);
    else
        serve_datagrams(options, socket);
}

int main(int count, char **arguments) {
    static const struct program program = {
        .version = "floor-uring: liburing " LIBURING_VERSION ", gcc " __VERSION__,
        .modes = "echo udp broadcast",
        .takes_threads = true,
        .serve = serve,
    };
    program_main(&program, count, arguments);
}
