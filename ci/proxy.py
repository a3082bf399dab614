#!/usr/bin/env python3
"""Speaks through the example proxy to real servers, as real clients would.

    cargo build --all-features --examples && python3 ci/proxy.py [--big] [DIRECTORY]

As ci/examples.py, with which it shares its tools. Uses redis-server, nginx and openssl where they
are. With --big (best with DIRECTORY target/release/examples) also what takes minutes: 10,000
connections, 1 GiB in each direction, redis-benchmark.
"""

import contextlib
import hashlib
import os
import random
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
import examples
from examples import DEADLINE, MIB, Example, check, check_end, check_memory, connect, equal
from examples import exchange, pattern, receive, receive_line, refused, rss_kib


class Upstream:
    """A server of one's own: each connection is given to `serve` on a thread."""

    def __init__(self, serve, address=("127.0.0.1", 0)):
        self.serve, self.address, self.served = serve, address, 0

    def __enter__(self):
        is_path = isinstance(self.address, str)
        self.listener = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(self.address)
        self.listener.listen(1024)
        self.address = self.listener.getsockname()
        self.url = f"unix://{self.address}" if is_path else "tcp://{}:{}".format(*self.address)
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def run(self):
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                peer, _ = self.listener.accept()
                peer.settimeout(DEADLINE)
                self.served += 1
                threading.Thread(target=self.one, args=[peer], daemon=True).start()

    def one(self, peer):
        with contextlib.suppress(OSError), peer:
            self.serve(peer)

    def __exit__(self, *_):
        # Closing alone would leave the thread in accept, and the port open.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def echo(peer):
    while data := peer.recv(1 << 16):
        peer.sendall(data)


def says(text):
    """Serves with a line and nothing else, until the client has closed."""

    def serve(peer):
        peer.sendall(text)
        while peer.recv(1 << 16):
            pass

    return serve


def proxy(*upstreams, flags=(), listen=("tcp://127.0.0.1:0",)):
    urls = [part for url in upstreams for part in ("--upstream", url)]
    return Example("proxy", *urls, *flags, listen=listen)


def url(example, index=0):
    address = example.address(index)
    return f"unix://{address}" if isinstance(address, str) else "tcp://{}:{}".format(*address)


def closed_port():
    return f"tcp://127.0.0.1:{examples.free_port()}"


def eventually(name, condition):
    end = time.monotonic() + DEADLINE
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    check(name, done, "not in time")


def outcome(peer):
    """What comes to an end how: the bytes, and the error's name or nothing."""
    received = bytearray()
    try:
        while some := peer.recv(1 << 16):
            received += some
        return bytes(received), ""
    except OSError as error:
        return bytes(received), type(error).__name__


def outcome_of_connect(example):
    """As outcome, of a client that says nothing; the end may come before connect returns."""
    try:
        with example.connect() as peer:
            return outcome(peer)
    except OSError as error:
        return b"", type(error).__name__


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def end(example, number=signal.SIGTERM):
    """As Example.end, and answers what it printed as its last words."""
    example.end(number)
    return example.process.stdout.read().decode()


def descriptors(example):
    """How many it has open, without the pipes that its loops keep to move bytes through: four each."""
    pipes, others = 0, 0
    directory = f"/proc/{example.process.pid}/fd"
    for name in os.listdir(directory):
        try:
            is_pipe = os.readlink(os.path.join(directory, name)).startswith("pipe:")
        except FileNotFoundError:
            continue
        pipes, others = pipes + is_pipe, others + (not is_pipe)
    kept = 2 * 4 * 2
    # Beside those are the standard streams.
    return others + max(0, pipes - 3 - kept)


# ---- what passes ----------------------------------------------------------------------------


def every_transport():
    path = os.path.join(examples.temporary, "proxy.sock")
    back = os.path.join(examples.temporary, "back.sock")
    with Upstream(echo) as tcp, Upstream(echo, back) as unix:
        port = tcp.address[1]
        for to in tcp.url, f"tcp://localhost:{port}", unix.url:
            with proxy(to, listen=["tcp://127.0.0.1:0", f"unix://{path}"]) as one:
                for index in 0, 1:
                    with one.connect(index) as peer:
                        same = exchange(peer, pattern(MIB)) == pattern(MIB)
                        check(f"proxy: 1 MiB from {one.addresses[index]} to {to}", same, "differs")
                words = end(one)
                told = f"{to}: 2 connections, 0 failed, {2 * MIB} bytes sent, {2 * MIB} received"
                equal(f"proxy: says what passed to {to}", words, told + "\n")


def http_through_the_proxy():
    with Example("http") as server, proxy(url(server)) as one, proxy(url(one)) as two:
        for front in one, two:
            examples.http_answers(front)
            examples.http_by_curl(front)
        for example in two, one, server:
            end(example)


def half_closes_in_a_chain():
    def answers_at_the_end(peer):
        request = b"".join(iter(lambda: peer.recv(1 << 16), b""))
        peer.sendall(hashlib.sha256(request).digest())

    def ends_first(peer):
        peer.sendall(b"that was all")
        peer.shutdown(socket.SHUT_WR)
        told.append(receive(peer, MIB + 1))

    told = []
    for serve in answers_at_the_end, ends_first:
        with contextlib.ExitStack() as stack:
            last = stack.enter_context(Upstream(serve))
            chain = [stack.enter_context(proxy(last.url))]
            for _ in range(2):
                chain.append(stack.enter_context(proxy(url(chain[-1]))))
            with chain[-1].connect() as peer:
                if serve is answers_at_the_end:
                    peer.sendall(pattern(MIB))
                    peer.shutdown(socket.SHUT_WR)
                    got = receive(peer, 100)
                    digest = hashlib.sha256(pattern(MIB)).digest()
                    equal("proxy: an answer behind the client's end", got, digest)
                else:
                    equal("proxy: the server's end", receive(peer, 100), b"that was all")
                    peer.sendall(pattern(MIB))
                    peer.shutdown(socket.SHUT_WR)
                    eventually("proxy: and the client still sends", lambda: told == [pattern(MIB)])
            for example in reversed(chain):
                end(example)


def resets_are_passed_on():
    seen = []
    gone = threading.Event()

    def note_the_end(peer):
        peer.sendall(b"hello")
        seen.append(outcome(peer)[1])
        gone.set()

    with Upstream(note_the_end) as back, proxy(back.url) as one, proxy(url(one)) as two:
        with two.connect() as peer:
            receive(peer, 5)
            reset(peer)
        gone.wait(DEADLINE)
        equal("proxy: the client's reset", seen, ["ConnectionResetError"])
        end(two)
        end(one)
    with Upstream(lambda peer: (peer.recv(1), reset(peer))) as back:
        with proxy(back.url, flags=["--verbose"]) as one, proxy(url(one)) as two:
            with two.connect() as peer:
                peer.sendall(b"x")
                equal("proxy: the server's reset", outcome(peer), (b"", "ConnectionResetError"))
            end(two)
            one.send(signal.SIGTERM)
            one.process.wait(DEADLINE)
            errors = one.stderr()
            check("proxy: its log says so", "upstream: reset by the peer" in errors, errors)


def headers_of_the_proxy_protocol():
    def first_bytes(peer):
        peer.sendall(receive(peer, wanted))

    back = os.path.join(examples.temporary, "header.sock")
    for address in ("127.0.0.1", 0), back:
        with Upstream(first_bytes, address) as server:
            for version in "v1", "v2":
                with proxy(server.url, flags=["--proxy-protocol", version]) as one:
                    with socket.socket() as peer:
                        peer.settimeout(DEADLINE)
                        peer.bind(("127.0.0.1", 0))
                        source, target = peer.getsockname(), one.address()
                        line = f"PROXY TCP4 127.0.0.1 127.0.0.1 {source[1]} {target[1]}\r\n"
                        header = line.encode()
                        if version == "v2":
                            header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\x7f\0\0\1" * 2
                            header += struct.pack("!HH", source[1], target[1])
                        wanted = len(header) + 4
                        peer.connect(target)
                        peer.sendall(b"data")
                        label = f"proxy: header {version} to {server.url.split(':')[0]}"
                        equal(label, receive(peer, wanted), header + b"data")
                    end(one)


def a_chain_tells_who_the_first_client_is():
    def first_line(peer):
        line = receive_line(peer)
        peer.sendall(line)

    with Upstream(first_line) as server:
        flags = ["--accept-proxy", "--trust", "127.0.0.0/8", "--trust", "::1"]
        inner = proxy(server.url, flags=[*flags, "--proxy-protocol", "v1"])
        with inner as one, proxy(url(one), flags=["--proxy-protocol", "v2"]) as two:
            with two.connect() as peer:
                source, target = peer.getsockname(), two.address()
                line = f"PROXY TCP4 127.0.0.1 127.0.0.1 {source[1]} {target[1]}\r\n"
                equal("proxy: a header through a chain", receive_line(peer), line.encode())
            with one.connect() as peer:
                peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
                equal("proxy: who sends no header is sent away", outcome(peer)[0], b"")
            end(two)
            end(one)
        flags = ["--accept-proxy", "--trust", "10.0.0.0/8"]
        with proxy(server.url, flags=flags) as one:
            got = b""
            with contextlib.suppress(OSError), one.connect() as peer:
                peer.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nline\r\n")
                got = outcome(peer)[0]
            equal("proxy: nor is one believed from elsewhere", got, b"")
            end(one)


def certificate():
    """A certificate for localhost and its key, in files."""
    key, cert = (os.path.join(examples.temporary, name) for name in ("key.pem", "cert.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key]
    command += ["-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    if not os.path.exists(cert):
        subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE)
    return key, cert


def tls_is_terminated():
    if not shutil.which("openssl"):
        return print("skip  proxy: there is no openssl")
    key, cert = certificate()
    flags = ["--tls-cert", cert, "--tls-key", key]
    context = ssl.create_default_context(cafile=cert)
    listen = ["tls://127.0.0.1:0", "tcp://127.0.0.1:0"]
    with Upstream(echo) as back, proxy(back.url, flags=flags, listen=listen) as one:
        with one.connect() as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as peer:
                same = exchange(peer, pattern(MIB)) == pattern(MIB)
                check(f"proxy: 1 MiB through {peer.version()}", same, "differs")
                peer.unwrap()
        with one.connect(1) as peer:
            equal("proxy: and without, beside it", exchange(peer, b"plain"), b"plain")
        with one.connect() as peer:
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
            receive(peer, 100)
        equal("proxy: who fails the handshake costs no upstream", back.served, 2)
        end(one)
    code, errors = refused("proxy", "--upstream", "tcp://h:1", "--tls-cert", cert)
    check("proxy: a certificate without a key", code == 2 and "--tls-key" in errors, errors)
    missing = ["--listen", "tls://127.0.0.1:0", "--upstream", "tcp://h:1"]
    missing += ["--tls-cert", cert, "--tls-key", key + "x"]
    code, errors = refused("proxy", *missing)
    check("proxy: a key that is not there is named", code == 1 and key + "x" in errors, errors)


def much_through_tls():
    """Each way with a reader that comes late: what waits is bounded behind TLS too."""
    if not shutil.which("openssl"):
        return print("skip  proxy: there is no openssl")

    def late_reader(peer):
        late.wait(DEADLINE)
        peer.sendall(hashlib.sha256(receive(peer, size)).digest())
        peer.sendall(message)

    late = threading.Event()
    size = 32 * MIB
    message = pattern(size)
    key, cert = certificate()
    flags = ["--tls-cert", cert, "--tls-key", key]
    context = ssl.create_default_context(cafile=cert)
    with Upstream(late_reader) as back:
        with proxy(back.url, flags=flags, listen=["tls://127.0.0.1:0"]) as one:
            with one.connect() as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as peer:
                    before = rss_kib(one.process)
                    threading.Timer(1, late.set).start()
                    peer.sendall(message)
                    digest = hashlib.sha256(message).digest()
                    equal("proxy: 32 MiB by TLS to a late reader", receive(peer, 32), digest)
                    time.sleep(1)
                    same = receive(peer, size) == message
                    check("proxy: and back, read late", same, "differs")
                    grown = rss_kib(one.process) - before
                    check_memory(f"proxy: TLS in {grown} KiB more", grown < 4096, "too much")
            end(one)


# ---- which upstream -------------------------------------------------------------------------


def ask(example, index=0, source="127.0.0.1"):
    """Which upstream answers: one letter. Also the open connection."""
    peer = socket.socket()
    peer.settimeout(DEADLINE)
    peer.bind((source, 0))
    peer.connect(example.address(index))
    return peer, receive(peer, 1)


def answers(example, count, source="127.0.0.1"):
    letters = b""
    for _ in range(count):
        peer, letter = ask(example, source=source)
        peer.close()
        letters += letter
    return letters


def balancing():
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Upstream(says(letter))) for letter in (b"a", b"b", b"c")]
        urls = [server.url for server in servers]
        with proxy(*urls) as one:
            equal("proxy: round-robin", answers(one, 7), b"abcabca")
            end(one)
        with proxy(*urls, flags=["--balance", "least-connections", "--loops", "2"]) as one:
            held = [ask(one) for _ in range(9)]
            letters = sorted(letter for _, letter in held)
            equal("proxy: least-connections spreads", letters, [b"a"] * 3 + [b"b"] * 3 + [b"c"] * 3)
            for peer, letter in held:
                if letter == b"b":
                    peer.close()
            # Once the proxy knows, the next ones go where there is room.
            eventually("proxy: and notes who leaves", lambda: one_more(one, held) == b"b")
            for peer, _ in held:
                peer.close()
            end(one)
        with proxy(*urls, flags=["--balance", "source-hash"]) as one:
            homes = {ip: answers(one, 3, ip) for ip in (f"127.0.0.{n}" for n in range(1, 21))}
            stable = all(len(set(letters)) == 1 for letters in homes.values())
            check("proxy: source-hash is stable", stable, homes)
            check("proxy: source-hash spreads", len(set(homes.values())) == 3, homes)
            end(one)


def one_more(example, held):
    peer, letter = ask(example)
    if letter == b"b":
        held.append((peer, letter))
    else:
        peer.close()
    return letter


def upstreams_that_refuse():
    dead, gone = closed_port(), os.path.join(examples.temporary, "nobody.sock")
    with Upstream(says(b"a")) as server:
        upstreams = [dead, server.url, f"unix://{gone}", "tcp://no.such.host.invalid:1"]
        with proxy(*upstreams, flags=["--down-for", "600s", "--verbose"]) as one:
            equal("proxy: the next one is tried", answers(one, 20), b"a" * 20)
            one.send(signal.SIGTERM)
            one.process.wait(DEADLINE)
            lines = one.stderr().splitlines()
            for bad in upstreams[:1] + upstreams[2:]:
                count = sum(line.startswith(f"{bad}: could not connect") for line in lines)
                equal(f"proxy: {bad} is left out after one failure", count, 1)
            good = sum(line.endswith("closed by the client") for line in lines)
            equal("proxy: a line for each connection", good, 20)
    with proxy(dead, f"unix://{gone}") as one:
        label = "proxy: where all refuse, the client is reset"
        equal(label, outcome_of_connect(one), (b"", "ConnectionResetError"))
        end(one)


def an_upstream_that_comes_back():
    with Upstream(says(b"a")) as stays:
        dead = closed_port()
        with proxy(dead, stays.url, flags=["--down-for", "200ms"]) as one:
            equal("proxy: one is dead", answers(one, 4), b"aaaa")
            port = int(dead.rsplit(":", 1)[1])
            with Upstream(says(b"b"), ("127.0.0.1", port)):
                eventually("proxy: it is tried again", lambda: b"b" in answers(one, 1))
                equal("proxy: and is as good as the other", sorted(answers(one, 10)), sorted(b"ab" * 5))
            # Open connections of the others do not mind.
            equal("proxy: it dies again", answers(one, 10), b"a" * 10)
            end(one)


def an_upstream_that_does_not_answer():
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than its backlog: further ones are not answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        silent = "tcp://127.0.0.1:{}".format(full.getsockname()[1])
        server = stack.enter_context(Upstream(echo))
        flags = ["--connect-timeout", "300ms", "--down-for", "600s", "--verbose"]
        one = stack.enter_context(proxy(silent, server.url, flags=flags))
        started = time.monotonic()
        with one.connect() as peer:
            # Most of it comes long before there is anybody to take it.
            same = exchange(peer, pattern(16 * MIB)) == pattern(16 * MIB)
            took = time.monotonic() - started
        check("proxy: the next one takes all when the first is silent", same, "differs")
        check("proxy: after the connect timeout", 0.29 <= took < 10, f"{took:.3f} s")
        one.send(signal.SIGTERM)
        one.process.wait(DEADLINE)
        told = f"{silent}: could not connect: timed out\n" in one.stderr()
        check("proxy: and says so", told, one.stderr())
        one = stack.enter_context(proxy(silent, flags=["--connect-timeout", "600s"]))
        resting = descriptors(one)
        with one.connect() as peer:
            eventually("proxy: it connects", lambda: descriptors(one) == resting + 2)
            reset(peer)
            eventually("proxy: for whom is still there", lambda: descriptors(one) == resting)
        end(one)


@examples.patiently
def an_upstream_with_a_full_backlog(slower):
    path = os.path.join(examples.temporary, f"busy{slower}.sock")
    flags = ["--connect-timeout", f"{500 * slower}ms", "--verbose"]
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(path)
        busy.listen(0)
        for _ in range(10):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            if waiting.connect_ex(path):
                break
        else:
            check("proxy: a backlog that is full", False, "it takes all")
        one = stack.enter_context(proxy(f"unix://{path}", flags=flags))
        started = time.monotonic()
        end_of_it = outcome_of_connect(one)
        took = time.monotonic() - started
        label = "proxy: a busy server has as long as one that is silent"
        check(label, end_of_it == (b"", "ConnectionResetError") and took > 0.4 * slower, took)
        with one.connect() as peer:
            peer.sendall(b"later")
            waiting, until = [], time.monotonic() + DEADLINE
            while not (got := first_of(busy, waiting)) and time.monotonic() < until:
                pass
            equal("proxy: who waits gets in", got, b"later")
            for accepted in waiting:
                accepted.close()
        words = end_verbose(one)
        check("proxy: nobody failed", ": 1 connections, 0 failed" in words, words)


def first_of(listener, accepted):
    """Accepts, or what comes first; of connections that only fill the backlog nothing does."""
    ready, _, _ = select.select([listener, *accepted], [], [], 1)
    for peer in ready:
        if peer is not listener:
            return peer.recv(100)
        accepted.append(listener.accept()[0])
    return b""


def end_verbose(example):
    example.send(signal.SIGTERM)
    example.process.wait(DEADLINE)
    return example.process.stdout.read().decode()


# ---- time and memory ------------------------------------------------------------------------


@examples.patiently
def silence_ends_a_pair(slower):
    idle = 0.4 * slower
    with Upstream(echo) as server:
        with proxy(server.url, flags=["--idle-timeout", f"{idle:.1f}s", "--verbose"]) as one:
            with one.connect() as silent, one.connect() as busy:
                started = time.monotonic()
                while time.monotonic() - started < 3 * idle:
                    exchange(busy, b"still here")
                    time.sleep(0.05)
                check_end("proxy: a silent connection ends", silent)
                equal("proxy: and the other does not", exchange(busy, b"yes"), b"yes")
            one.send(signal.SIGTERM)
            one.process.wait(DEADLINE)
            errors = one.stderr()
            check("proxy: the log says idle", errors.count("idle for too long") == 1, errors)


def memory_while_nobody_reads():
    released = threading.Event()
    digests = {}

    def late_reader(peer):
        # Left to itself the system lets it grow as long as the message, now and then.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
        released.wait(DEADLINE)
        digest = hashlib.sha256()
        for some in iter(lambda: peer.recv(1 << 16), b""):
            digest.update(some)
        peer.sendall(digest.digest())

    size, count = 32 * MIB, 8
    message = pattern(size)
    with Upstream(late_reader) as server, proxy(server.url) as one, contextlib.ExitStack() as stack:
        with one.connect() as peer:
            peer.shutdown(socket.SHUT_WR)  # warm
        before = rss_kib(one.process)
        peers = [stack.enter_context(one.connect()) for _ in range(count)]
        sent = [0] * count

        def send(index):
            while sent[index] < size:
                sent[index] += peers[index].send(message[sent[index] : sent[index] + MIB])
            peers[index].shutdown(socket.SHUT_WR)
            digests[index] = receive(peers[index], 32)

        threads = [threading.Thread(target=send, args=[index], daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        until_nothing_moves(sent)
        grown = rss_kib(one.process) - before
        stuck = all(part < size for part in sent)
        check("proxy: senders wait for a reader that does not read", stuck, sent)
        # 256 KiB for each and a turn's input, and what the loop keeps for reuse.
        limit = count * (256 + 64 + 64) + 4096
        check_memory(f"proxy: {grown} KiB for {count} of them", grown < limit, f"limit {limit}")
        released.set()
        for thread in threads:
            thread.join(DEADLINE)
        digest = hashlib.sha256(message).digest()
        equal("proxy: all of it arrives", list(digests.values()), [digest] * count)
        end(one)


def memory_while_the_client_does_not_read():
    size, count = 32 * MIB, 8

    def send(peer):
        peer.recv(1)
        for start in range(0, size, MIB):
            peer.sendall(message[start : start + MIB])
            sent[peer] = start

    message, sent = pattern(size), {}
    stack = contextlib.ExitStack()
    with Upstream(send) as server, proxy(server.url) as one, stack:
        peers = [stack.enter_context(one.connect()) for _ in range(count)]
        before = rss_kib(one.process)
        for peer in peers:
            # As above, so that what it cannot take waits.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
            peer.sendall(b"x")
        until_nothing_moves(sent)
        grown = rss_kib(one.process) - before
        stuck = len(sent) == count and all(part < size - MIB for part in sent.values())
        check("proxy: a server waits for clients that do not read", stuck, sent)
        limit = count * (256 + 64 + 64) + 4096
        check_memory(f"proxy: {grown} KiB for {count} of them", grown < limit, f"limit {limit}")
        same = all(receive(peer, size) == message for peer in peers)
        check("proxy: and they get all of it", same, "differs")
        stack.close()
        end(one)


def until_nothing_moves(sent):
    last = None
    while not sent or sent != last:
        last = sent.copy()
        time.sleep(0.5)


def draining():
    with Upstream(echo) as server, proxy(server.url) as one:
        address = one.address()
        with one.connect() as peer:
            exchange(peer, b"before")
            one.send(signal.SIGTERM)
            eventually("proxy: draining, it does not listen", lambda: not listens(address))
            equal("proxy: and serves who is there", exchange(peer, pattern(MIB)), pattern(MIB))
        code = one.process.wait(DEADLINE)
        equal("proxy: until the last one is gone", (code, one.stderr()), (0, ""))
    with Upstream(echo) as server, proxy(server.url, flags=["--drain-timeout", "200ms"]) as one:
        with one.connect() as peer:
            exchange(peer, b"before")
            started = time.monotonic()
            one.send(signal.SIGTERM)
            check_end("proxy: or patience is over", peer)
            took = time.monotonic() - started
            check("proxy: then, and not before", 0.19 <= took < 10, f"{took:.3f} s")
        equal("proxy: also with exit code 0", one.process.wait(DEADLINE), 0)
    with Upstream(echo) as server, proxy(server.url) as one:
        with one.connect() as peer:
            exchange(peer, b"before")
            one.send(signal.SIGTERM)
            eventually("proxy: draining", lambda: not listens(one.address()))
            one.send(signal.SIGTERM)
            equal("proxy: the second signal does not wait", one.process.wait(DEADLINE), 143)


def listens(address):
    try:
        connect(address).__enter__().close()
        return True
    except OSError:
        return False


def bad_flags():
    for flags, code, word in [
        ([], 2, "--upstream"),
        (["--upstream", "udp://h:1"], 2, "udp://h:1"),
        (["--upstream", "tls://h:1"], 2, "plaintext"),
        (["--upstream", "tcp://:1"], 2, "no host"),
        (["--upstream", "nonsense"], 2, "nonsense"),
        (["--upstream", "tcp://h:1", "--balance", "luck"], 2, "luck"),
        (["--upstream", "tcp://h:1", "--idle-timeout", "1h"], 2, "1h"),
        (["--upstream", "tcp://h:1", "--drain-timeout", "1e19s"], 2, "1e19s"),
        (["--upstream", "tcp://h:1", "--tls-cert", "c", "--tls-key", "k"], 1, "tls://"),
        (["--upstream", "tcp://h:1", "--listen", "udp://127.0.0.1:0"], 1, "udp://127.0.0.1:0"),
        (["--upstream", "tcp://h:1", "--listen", "tls://127.0.0.1:0"], 1, "tls://127.0.0.1:0"),
    ]:
        found, errors = refused("proxy", *flags)
        check(f"proxy {' '.join(flags)}: refused", found == code and word in errors, errors)


# ---- real servers ---------------------------------------------------------------------------


@contextlib.contextmanager
def process(*command):
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def redis_server(port):
    return process("redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1",
                   "--daemonize", "no", "--dir", examples.temporary)


def redis_through_the_proxy():
    if not shutil.which("redis-server"):
        return print("skip  proxy: there is no redis-server")
    address = closed_port()
    port = int(address.rsplit(":", 1)[1])
    with proxy(address, flags=["--down-for", "100ms"]) as one, proxy(url(one)) as two:

        def pings():
            with contextlib.suppress(OSError), two.connect() as peer:
                peer.sendall(b"PING\r\n")
                return receive(peer, 7) == b"+PONG\r\n"
            return False

        for count in "first", "second":
            with contextlib.ExitStack() as stack:
                with redis_server(port):
                    eventually(f"proxy: redis answers, {count} start", pings)
                    peer = stack.enter_context(two.connect())
                    redis_commands(peer)
                    with two.connect() as listener:
                        redis_publishes(peer, listener)
                # It was killed: who was connected learns of it.
                equal(f"proxy: redis is gone, {count} start", outcome(peer)[0], b"")
                check("proxy: for all", not pings(), "it answers")
        end(two)
        end(one)


def redis_commands(peer):
    value = pattern(8 * MIB)
    peer.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n" % (len(value), value))
    equal("proxy: redis takes 8 MiB", receive(peer, 5), b"+OK\r\n")
    peer.sendall(b"GET k\r\n")
    expected = b"$%d\r\n%s\r\n" % (len(value), value)
    same = receive(peer, len(expected)) == expected
    check("proxy: and gives them back", same, "differs")
    answer = exchange_lines(peer, b"INCR n\r\n" * 10_000, 10_000)
    check("proxy: 10,000 pipelined commands", answer.endswith(b":10000\r\n"), answer[-20:])


def redis_publishes(peer, listener):
    listener.sendall(b"SUBSCRIBE c\r\n")
    receive(listener, len(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"))
    peer.sendall(b"PUBLISH c hello\r\n")
    equal("proxy: redis counts who listens", receive(peer, 4), b":1\r\n")
    published = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n"
    equal("proxy: what is published arrives", receive(listener, len(published)), published)


def exchange_lines(peer, message, lines):
    sender = threading.Thread(target=peer.sendall, args=[message], daemon=True)
    sender.start()
    answer = bytearray()
    while answer.count(b"\n") < lines:
        some = peer.recv(1 << 16)
        if not some:
            break
        answer += some
    sender.join(DEADLINE)
    return bytes(answer)


def web_servers_through_the_proxy():
    """Files of 16 MiB by several clients at once, from whatever web servers there are."""
    root = os.path.join(examples.temporary, "www")
    os.makedirs(root)
    body = pattern(16 * MIB)
    with open(os.path.join(root, "file"), "wb") as file:
        file.write(body)
    address = closed_port()
    port = address.rsplit(":", 1)[1]
    servers = {"http.server": ["-m", "http.server", "--bind", "127.0.0.1", "-d", root, port]}
    servers["http.server"].insert(0, sys.executable)
    if shutil.which("nginx"):
        config = os.path.join(examples.temporary, "nginx.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"""daemon off; master_process off; pid {root}.pid; error_log stderr;
                user {"root" if os.getuid() == 0 else "nobody"};
                events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{port};
                root {root}; }} }}""")
        servers["nginx"] = ["nginx", "-c", config, "-p", root]
    for name, command in servers.items():
        with process(*command), proxy(address) as one, proxy(url(one)) as two:
            eventually(f"proxy: {name} answers", lambda: listens(("127.0.0.1", int(port))))
            wrong = []

            def fetch():
                with two.connect() as peer:
                    peer.sendall(b"GET /file HTTP/1.0\r\n\r\n")
                    if outcome(peer)[0].partition(b"\r\n\r\n")[2] != body:
                        wrong.append(1)

            in_parallel(8, fetch)
            equal(f"proxy: 8 files of 16 MiB by {name}", wrong, [])
            end(two)
            end(one)


def in_parallel(count, call):
    threads = [threading.Thread(target=call, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * DEADLINE)
    hanging = sum(thread.is_alive() for thread in threads)
    equal(f"proxy: of {count} clients none hangs", hanging, 0)


def one_of_two_is_killed():
    """Clients without end against two servers, while one is killed and started again."""
    over = threading.Event()
    rounds, broken = [0], [0]

    def client():
        while not over.is_set():
            try:
                with one.connect() as peer:
                    for _ in range(20):
                        if exchange(peer, pattern(1000)) != pattern(1000):
                            raise ConnectionError
                rounds[0] += 1
            except OSError:
                broken[0] += 1

    def more():
        before = rounds[0]
        return lambda: rounds[0] > before + 100

    with Example("echo") as stays, contextlib.ExitStack() as stack:
        dies = stack.enter_context(Example("echo"))
        again = url(dies)
        flags = ["--down-for", "300ms", "--loops", "2"]
        one = stack.enter_context(proxy(url(stays), again, flags=flags))
        clients = threading.Thread(target=in_parallel, args=[10, client], daemon=True)
        clients.start()
        for count in range(3):
            eventually(f"proxy: clients go on, round {count}", more())
            before = broken[0]
            dies.process.kill()
            dies.process.wait()
            eventually(f"proxy: one server is enough, round {count}", more())
            # Who was connected to it, and not one more.
            lost = broken[0] - before
            check(f"proxy: {lost} clients were cut off", lost <= 10, "more than there are")
            stack.enter_context(dies := Example("echo", listen=[again]))
        eventually("proxy: clients go on to the end", more())
        over.set()
        clients.join(DEADLINE)
        words = end(one)
        check("proxy: and both had their share", words.count(" 0 connections") == 0, words)
        dies.end()
        stays.end()


def peers_of_every_kind():
    """Both sides end how and when they like, at random: nobody hangs, and nothing stays."""
    roll = lambda *choices: random.choice(choices)

    def behave(peer):
        peer.settimeout(0.05)  # nobody waits for the other for ever
        for _ in range(roll(0, 1, 3, 10)):
            with contextlib.suppress(TimeoutError):
                what = roll("send", "send", "read", "read", "end", "reset", "leave")
                if what == "send":
                    peer.sendall(pattern(roll(1, 1000, 100_000, 1 << 20)))
                elif what == "read":
                    peer.recv(roll(1, 1000, 1 << 20))
                elif what == "end":
                    peer.shutdown(socket.SHUT_WR)
                elif what == "reset":
                    return reset(peer)
                else:
                    return
        peer.settimeout(DEADLINE)

    def client():
        for _ in range(100):
            with contextlib.suppress(OSError), two.connect() as peer:
                behave(peer)

    back = os.path.join(examples.temporary, "chaos.sock")
    flags = ["--loops", "2", "--down-for", "1ms"]
    with Upstream(behave) as tcp, Upstream(behave, back) as unix:
        with proxy(tcp.url, closed_port(), unix.url, flags=flags) as one, proxy(url(one)) as two:
            resting = descriptors(one), descriptors(two)
            in_parallel(10, client)
            gone = lambda: (descriptors(one), descriptors(two)) == resting
            eventually("proxy: nothing stays of 1,000 connections", gone)
            end(two)
            end(one)


# ---- what takes minutes ---------------------------------------------------------------------


def ten_thousand_connections():
    with Example("echo") as server, proxy(url(server)) as one, proxy(url(one)) as two:
        resting = descriptors(two), descriptors(one)

        def come_and_go():
            for _ in range(2500):
                with two.connect() as peer:
                    if exchange(peer, b"x" * 100) != b"x" * 100:
                        raise ConnectionError

        sizes = []
        for count in range(3):
            started = time.monotonic()
            in_parallel(4, come_and_go)
            took = time.monotonic() - started
            eventually("proxy: no descriptor stays", lambda: descriptors(two) == resting[0])
            sizes.append(rss_kib(two.process))
            print(f"      10,000 connections, one after the other: {took:.1f} s, {sizes[-1]} KiB")
        check("proxy: no memory stays", sizes[-1] < sizes[0] + 512, sizes)
        count = min(10_000, (descriptor_limit() - 200) // 2)
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(two.connect()) for _ in range(count)]
                for peer in peers:
                    peer.sendall(b"hello")
                same = all(receive(peer, 5) == b"hello" for peer in peers)
                check(f"proxy: {count} connections at once, {rss_kib(two.process)} KiB", same, "differs")
            eventually("proxy: all are gone", lambda: descriptors(two) == resting[0])
        eventually("proxy: in the chain too", lambda: descriptors(one) == resting[1])
        end(two)
        end(one)


def descriptor_limit():
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def a_gibibyte_each_way():
    block = os.urandom(MIB)
    with Example("echo") as server, proxy(url(server)) as one, proxy(url(one)) as two:
        with two.connect() as peer:
            sent, got, most = hashlib.sha256(), hashlib.sha256(), 0

            def send():
                for number in range(1024):
                    part = number.to_bytes(8, "big") + block[8:]
                    sent.update(part)
                    peer.sendall(part)
                peer.shutdown(socket.SHUT_WR)

            started = time.monotonic()
            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            total = 0
            while some := peer.recv(1 << 18):
                got.update(some)
                total += len(some)
                if total % 4096 < 8:
                    most = max(most, rss_kib(two.process), rss_kib(one.process))
            sender.join(DEADLINE)
            took = time.monotonic() - started
            equal("proxy: 1 GiB each way", (total, got.digest()), (1 << 30, sent.digest()))
            most = max(most, rss_kib(two.process), rss_kib(one.process))
            check(f"proxy: in {took:.1f} s and {most} KiB", most < 32 << 10, "too much memory")
        end(two)
        end(one)


def redis_benchmark():
    if not shutil.which("redis-benchmark"):
        return print("skip  proxy: there is no redis-benchmark")
    address = closed_port()
    port = address.rsplit(":", 1)[1]
    with redis_server(int(port)), proxy(address) as one:
        eventually("proxy: redis answers", lambda: listens(("127.0.0.1", int(port))))
        for name, to in ("directly", port), ("by the proxy", str(one.address()[1])):
            for more in [], ["-P", "16"], ["-k", "0", "-n", "10000"]:
                command = ["redis-benchmark", "-p", to, "-c", "200", "-n", "100000", "-t", "get"]
                command += ["-q", *more]
                done = subprocess.run(command, capture_output=True, text=True, timeout=300)
                line = done.stdout.replace("\r", "\n").strip().splitlines()[-1:]
                label = f"proxy: redis-benchmark {' '.join(more)} {name}: {line}"
                check(label, done.returncode == 0, done.stderr)
        end(one)


GROUPS = [
    every_transport,
    http_through_the_proxy,
    half_closes_in_a_chain,
    resets_are_passed_on,
    headers_of_the_proxy_protocol,
    a_chain_tells_who_the_first_client_is,
    tls_is_terminated,
    much_through_tls,
    balancing,
    upstreams_that_refuse,
    an_upstream_that_comes_back,
    an_upstream_that_does_not_answer,
    an_upstream_with_a_full_backlog,
    silence_ends_a_pair,
    memory_while_nobody_reads,
    memory_while_the_client_does_not_read,
    draining,
    bad_flags,
    redis_through_the_proxy,
    web_servers_through_the_proxy,
    one_of_two_is_killed,
    peers_of_every_kind,
]
BIG = [ten_thousand_connections, a_gibibyte_each_way, redis_benchmark]

if __name__ == "__main__":
    examples.GROUPS = GROUPS + (BIG if "--big" in sys.argv else [])
    sys.argv = [argument for argument in sys.argv if argument != "--big"]
    examples.main()
