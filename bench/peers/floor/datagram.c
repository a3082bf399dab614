/* The floor for datagrams: recvmmsg, sendmmsg, and with --gso several datagrams as one. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>

enum {
    BATCH = 64,
    DATAGRAM_BYTES = 64 * 1024,
    /* Buffers a whole number of pages apart would all fall into the same sets of the cache. */
    STRIDE = DATAGRAM_BYTES + 128,
    CONTROL_BYTES = CMSG_SPACE(sizeof(int)),
};

union control {
    char bytes[CONTROL_BYTES];
    struct cmsghdr aligned;
};

struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_storage addresses[BATCH];
    union control controls[BATCH];
    struct mmsghdr replies[BATCH];
    union control reply_controls[BATCH];
    char *buffers;
};

static void prepare(struct batch *batch, int count, bool offload) {
    for (int i = 0; i < count; i++) {
        batch->vectors[i].iov_len = DATAGRAM_BYTES;
        struct msghdr *header = &batch->messages[i].msg_hdr;
        header->msg_namelen = sizeof batch->addresses[i];
        header->msg_controllen = offload ? CONTROL_BYTES : 0;
    }
}

static struct batch *new_batch(bool offload) {
    struct batch *batch = must_allocate(sizeof *batch);
    *batch = (struct batch){.buffers = must_allocate((size_t)BATCH * STRIDE)};
    for (int i = 0; i < BATCH; i++) {
        batch->vectors[i].iov_base = batch->buffers + (size_t)i * STRIDE;
        batch->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &batch->addresses[i],
            .msg_iov = &batch->vectors[i],
            .msg_iovlen = 1,
            .msg_control = offload ? &batch->controls[i] : NULL,
        };
    }
    prepare(batch, BATCH, offload);
    return batch;
}

static void wait_until_writable(int socket) {
    struct pollfd waited = {.fd = socket, .events = POLLOUT};
    if (poll(&waited, 1, -1) < 0 && errno != EINTR)
        fatal("poll");
}

/* Nothing is read until all is sent: the socket's own queue is the back-pressure. */
static void send_all(int socket, struct mmsghdr *messages, int count) {
    for (int done = 0; done < count;) {
        int sent = sendmmsg(socket, messages + done, count - done, 0);
        if (sent >= 0)
            done += sent;
        else if (errno == EAGAIN)
            wait_until_writable(socket);
        else if (errno != EINTR)
            done++; /* this one cannot be sent: a datagram may be lost, the others go on */
    }
}

static void echo_each(struct batch *batch, int socket, int count) {
    for (int i = 0; i < count; i++)
        batch->vectors[i].iov_len = batch->messages[i].msg_len;
    send_all(socket, batch->messages, count);
    prepare(batch, count, false);
}

/* The size of the datagrams in a message that the kernel joined from several, or its length. */
static size_t segment_size(struct mmsghdr *message) {
    struct msghdr *header = &message->msg_hdr;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at; at = CMSG_NXTHDR(header, at)) {
        int size;
        if (at->cmsg_level == SOL_UDP && at->cmsg_type == UDP_GRO) {
            memcpy(&size, CMSG_DATA(at), sizeof size);
            return size;
        }
    }
    return message->msg_len;
}

/* Says in the reply that its bytes are several datagrams of this size. */
static void set_segments(struct msghdr *reply, union control *control, uint16_t size) {
    reply->msg_control = control;
    reply->msg_controllen = CMSG_SPACE(sizeof size);
    struct cmsghdr *header = CMSG_FIRSTHDR(reply);
    *header = (struct cmsghdr){
        .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof size)};
    memcpy(CMSG_DATA(header), &size, sizeof size);
}

static bool same_address(struct msghdr *left, struct msghdr *right) {
    return left->msg_namelen == right->msg_namelen &&
           !memcmp(left->msg_name, right->msg_name, left->msg_namelen);
}

/* Neighbours of one sender and size become one message, within what the kernel takes at once. */
static void echo_joined(struct batch *batch, int socket, int count) {
    enum { SEGMENTS = 64, BYTES = 65000 };
    int replies = 0;
    for (int first = 0; first < count; replies++) {
        struct mmsghdr *start = &batch->messages[first];
        size_t size = segment_size(start), bytes = start->msg_len;
        bool even = size && bytes % size == 0;
        int next = first + 1;
        for (; next < count && even; next++) {
            struct mmsghdr *message = &batch->messages[next];
            size_t joined = bytes + message->msg_len;
            if (segment_size(message) != size || joined > BYTES || joined > SEGMENTS * size ||
                !same_address(&start->msg_hdr, &message->msg_hdr))
                break;
            even = message->msg_len % size == 0; /* a shorter one can only be the last */
            bytes = joined;
        }
        for (int i = first; i < next; i++)
            batch->vectors[i].iov_len = batch->messages[i].msg_len;
        struct msghdr *reply = &batch->replies[replies].msg_hdr;
        *reply = start->msg_hdr;
        reply->msg_iovlen = next - first;
        reply->msg_control = NULL;
        reply->msg_controllen = 0;
        if (bytes > size)
            set_segments(reply, &batch->reply_controls[replies], size);
        first = next;
    }
    send_all(socket, batch->replies, replies);
    prepare(batch, count, true);
}

void serve_datagrams(const struct options *options, int socket) {
    int on = 1;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event))
        fatal("epoll");
    if (options->offload && setsockopt(socket, SOL_UDP, UDP_GRO, &on, sizeof on))
        fatal("UDP_GRO");
    struct batch *batch = new_batch(options->offload);
    for (;;) {
        if (epoll_wait(epoll, &event, 1, -1) < 0 && errno != EINTR)
            fatal("epoll_wait");
        int count = recvmmsg(socket, batch->messages, BATCH, MSG_DONTWAIT, NULL);
        if (count > 0 && options->offload)
            echo_joined(batch, socket, count);
        else if (count > 0)
            echo_each(batch, socket, count);
    }
}
