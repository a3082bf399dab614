/* What the C peers share: the command line, the sockets, the threads. Never the loop itself. */
#ifndef PEERS_COMMON_H
#define PEERS_COMMON_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* Addresses are resolved once, and every thread binds to the same. */
struct options {
    const char *mode;
    struct sockaddr_storage address;
    socklen_t address_length;
    int threads;
    bool edge;    /* --edge: edge-triggered (floor) */
    bool offload; /* --gso: receive and send several datagrams as one (floor) */
};

/* What one program knows: its modes, its --version line, and which of them may have threads. */
struct program {
    const char *version;
    const char *modes; /* separated by spaces */
    bool takes_threads;
    bool takes_edge;
    bool takes_offload;
    /* Serves for ever on a socket that listens (or is bound, for udp). */
    void (*serve)(const struct options *options, int socket);
};

/* Reads the command line, opens a socket a thread, prints `ready`, serves. Never returns. */
_Noreturn void program_main(const struct program *program, int count, char **arguments);

/* Only the command line, for peers that open their sockets themselves. */
void program_options(const struct program *program, int count, char **arguments,
                     struct options *options);

/* The descriptor limit raised as far as it goes, SIGPIPE ignored. */
void program_limits(void);

void say_ready(void);

/* Ends the program with the message and the reason in errno. */
_Noreturn void fatal(const char *what);

/* Memory or the end of the program. */
void *must_allocate(size_t size);
void *must_resize(void *old, size_t size);

#endif
