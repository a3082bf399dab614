/* Datagrams: libuv receives up to 20 with one recvmmsg when the buffer has room for that many, and
 * each is answered at once by uv_udp_try_send. */
#include "server.h"

enum { DATAGRAMS = 20 /* libuv takes no more at once */ };

static char buffer[DATAGRAMS * 64 * 1024]; /* libuv cuts it into pieces of 64 KiB */
static unsigned waiting; /* answers that the socket did not take */

struct answer {
    uv_udp_send_t request;
    char bytes[];
};

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *given) {
    (void)handle;
    (void)suggested;
    *given = uv_buf_init(buffer, sizeof buffer);
}

static void received(uv_udp_t *, ssize_t, const uv_buf_t *, const struct sockaddr *, unsigned);

static void sent(uv_udp_send_t *request, int status) {
    (void)status; /* a datagram that cannot be sent is lost, as datagrams may be */
    if (--waiting == 0)
        uv_udp_recv_start(request->handle, allocate, received);
    free(request->data);
}

static void received(uv_udp_t *socket, ssize_t length, const uv_buf_t *given,
                     const struct sockaddr *sender, unsigned flags) {
    (void)flags;
    if (length < 0 || !sender)
        return;
    uv_buf_t bytes = uv_buf_init(given->base, length);
    if (!waiting && uv_udp_try_send(socket, &bytes, 1, sender) != UV_EAGAIN)
        return;
    struct answer *answer = must_allocate(sizeof *answer + length);
    memcpy(answer->bytes, given->base, length);
    answer->request.data = answer;
    bytes = uv_buf_init(answer->bytes, length);
    if (uv_udp_send(&answer->request, socket, &bytes, 1, sender, sent)) {
        free(answer);
        return;
    }
    if (waiting++ == 0)
        uv_udp_recv_stop(socket);
}

void serve_datagrams(uv_loop_t *loop, const struct options *options) {
    static uv_udp_t socket;
    int receive_bytes = 1 << 20;
    int code = uv_udp_init_ex(loop, &socket, AF_UNSPEC | UV_UDP_RECVMMSG);
    if (!code)
        code = uv_udp_bind(&socket, (const struct sockaddr *)&options->address, 0);
    if (!code)
        code = uv_recv_buffer_size((uv_handle_t *)&socket, &receive_bytes);
    if (!code)
        code = uv_udp_recv_start(&socket, allocate, received);
    if (code)
        uv_fatal("cannot bind", code);
}
