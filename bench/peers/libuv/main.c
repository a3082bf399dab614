/* The command line of the peer libuv. */
#include "server.h"

#include <stdio.h>

void uv_fatal(const char *what, int code) {
    fprintf(stderr, "libuv: %s: %s\n", what, uv_strerror(code));
    exit(1);
}

int main(int count, char **arguments) {
    char version[128];
    snprintf(version, sizeof version, "libuv %s, gcc %s", uv_version_string(), __VERSION__);
    const struct program program = {.version = version, .modes = "echo udp http broadcast"};
    struct options options;
    program_options(&program, count, arguments, &options);
    program_limits();
    uv_loop_t *loop = uv_default_loop();
    if (!strcmp(options.mode, "udp"))
        serve_datagrams(loop, &options);
    else
        serve_streams(loop, &options);
    say_ready();
    return uv_run(loop, UV_RUN_DEFAULT);
}
