/* The command line, the sockets and the threads of the C peers. */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { EXIT_USAGE = 2, BACKLOG = 65535 /* the kernel takes the smaller of this and somaxconn */ };

void fatal(const char *what) {
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

_Noreturn static void usage(const struct program *program, const char *what, const char *word) {
    fprintf(stderr, "%s: %s%s; usage: %s MODE HOST:PORT%s%s%s, MODE one of: %s\n",
            program_invocation_short_name, what, word, program_invocation_short_name,
            program->takes_threads ? " [--threads N]" : "", program->takes_edge ? " [--edge]" : "",
            program->takes_offload ? " [--gso]" : "", program->modes);
    exit(EXIT_USAGE);
}

void *must_allocate(size_t size) {
    return must_resize(NULL, size);
}

void *must_resize(void *old, size_t size) {
    void *memory = realloc(old, size);
    if (!memory)
        fatal("memory");
    return memory;
}

static bool has_mode(const struct program *program, const char *mode) {
    size_t length = strlen(mode);
    for (const char *at = program->modes; length && (at = strstr(at, mode)); at += length) {
        bool starts = at == program->modes || at[-1] == ' ';
        if (starts && (at[length] == ' ' || at[length] == '\0'))
            return true;
    }
    return false;
}

static void resolve(const struct program *program, const char *text, struct options *options) {
    char host[256];
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || (size_t)(colon - text) >= sizeof host)
        usage(program, "not HOST:PORT: ", text);
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    char *name = host;
    size_t length = strlen(host);
    if (host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        name = host + 1;
    }
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int failure = getaddrinfo(name, colon + 1, &hints, &found);
    if (failure)
        usage(program, gai_strerror(failure), text);
    memcpy(&options->address, found->ai_addr, found->ai_addrlen);
    options->address_length = found->ai_addrlen;
    freeaddrinfo(found);
}

static int thread_count(const struct program *program, const char *text) {
    char *end;
    long count = text ? strtol(text, &end, 10) : 0;
    if (!text || *end || count < 1 || count > 256)
        usage(program, "--threads needs a number from 1 to 256", "");
    return (int)count;
}

void program_options(const struct program *program, int count, char **arguments,
                     struct options *options) {
    *options = (struct options){.threads = 1};
    const char *words[2];
    int found = 0;
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "--version")) {
            puts(program->version);
            exit(0);
        }
        if (program->takes_threads && !strcmp(arguments[i], "--threads"))
            options->threads = thread_count(program, arguments[++i]); /* the list ends with NULL */
        else if (program->takes_edge && !strcmp(arguments[i], "--edge"))
            options->edge = true;
        else if (program->takes_offload && !strcmp(arguments[i], "--gso"))
            options->offload = true;
        else if (arguments[i][0] == '-' || found == 2)
            usage(program, "unknown argument: ", arguments[i]);
        else
            words[found++] = arguments[i];
    }
    if (found < 2)
        usage(program, "MODE and HOST:PORT are needed", "");
    options->mode = words[0];
    if (!has_mode(program, options->mode))
        usage(program, "unknown mode: ", options->mode);
    resolve(program, words[1], options);
    if (options->threads > 1 && !strcmp(options->mode, "broadcast"))
        usage(program, "broadcast has one thread: its receivers are one list", "");
}

void program_limits(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        fatal("descriptor limit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        fatal("descriptor limit");
    signal(SIGPIPE, SIG_IGN);
}

void say_ready(void) {
    puts("ready");
    fflush(stdout);
}

static int open_socket(const struct options *options) {
    bool is_udp = !strcmp(options->mode, "udp");
    int kind = (is_udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int server = socket(options->address.ss_family, kind, 0);
    if (server < 0)
        fatal("socket");
    int on = 1, receive_bytes = 1 << 20;
    if (!is_udp && setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        fatal("SO_REUSEADDR");
    if (options->threads > 1 && setsockopt(server, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        fatal("SO_REUSEPORT");
    if (is_udp && setsockopt(server, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes))
        fatal("SO_RCVBUF");
    /* Linux gives each accepted connection the listener's TCP_NODELAY: no call for each. */
    if (!is_udp && setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on))
        fatal("TCP_NODELAY");
    if (bind(server, (const struct sockaddr *)&options->address, options->address_length))
        fatal("bind");
    if (!is_udp && listen(server, BACKLOG))
        fatal("listen");
    return server;
}

struct worker {
    const struct program *program;
    const struct options *options;
    int socket;
};

static void *work(void *argument) {
    struct worker *worker = argument;
    worker->program->serve(worker->options, worker->socket);
    return NULL;
}

void program_main(const struct program *program, int count, char **arguments) {
    struct options options;
    program_options(program, count, arguments, &options);
    program_limits();
    struct worker workers[256];
    for (int i = 0; i < options.threads; i++)
        workers[i] = (struct worker){program, &options, open_socket(&options)};
    for (int i = 1; i < options.threads; i++) {
        pthread_t thread;
        errno = pthread_create(&thread, NULL, work, &workers[i]);
        if (errno)
            fatal("thread");
    }
    say_ready();
    work(&workers[0]);
    exit(1);
}
