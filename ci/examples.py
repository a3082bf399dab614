#!/usr/bin/env python3
"""Starts every example and speaks to it as a real client would.

    cargo build --examples && python3 ci/examples.py [DIRECTORY]

DIRECTORY holds the built examples (default target/debug/examples). Needs nothing but Python, and
uses curl where there is one. Prints a line for each check; the exit code is 1 if one failed.
Ports are chosen by the system, paths are in a temporary directory, and what is waited for is an
event, never time: DEADLINE only bounds the wait for something that does not come. EXAMPLE_DRIVER=poll
or io-uring has the examples use that driver. EXAMPLE_SANITIZED says that a sanitizer is built in
(ci/sanitize.sh): then memory is not measured, and whatever an example writes of a sanitizer is a failure.
"""

import contextlib
import datetime
import email.utils
import functools
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

DEADLINE = 30.0  # seconds
ATTEMPTS = 3
MIB = 1 << 20

directory = "target/debug/examples"
temporary = ""
passed, failed = 0, 0
held_back = None  # what a group finds that may be repeated
is_sanitized = bool(os.environ.get("EXAMPLE_SANITIZED"))


def check(name, ok, detail=""):
    """One line, one count."""
    global passed, failed
    if held_back is not None:
        return held_back.append((name, ok, detail))
    passed, failed = (passed + 1, failed) if ok else (passed, failed + 1)
    print(f"ok    {name}" if ok else f"FAIL  {name}: {detail}", flush=True)


def patiently(group):
    """For groups that a machine can spoil by standing still, as a virtual one does while others have its
    processors. What they find counts if it is good, or at the third attempt. Each of the attempts has
    twice as much time for everything: what the group takes is what its times are to be multiplied by."""

    @functools.wraps(group)
    def repeated():
        global held_back
        for attempt in range(ATTEMPTS):
            held_back = found = []
            try:
                group(1 << attempt)
            except Exception as error:
                traceback.print_exc()
                check(group.__name__, False, error)
            finally:
                held_back = None
            bad = [(name, detail) for name, ok, detail in found if not ok]
            if not bad or attempt == ATTEMPTS - 1:
                break
            print(f"again {group.__name__}, with twice the time: {bad}", flush=True)
        for name, ok, detail in found:
            check(name, ok, detail)

    return repeated


def free_port():
    """A port that nobody has, below those that the system gives to whoever asks for any."""
    for _ in range(1000):
        port = random.randrange(12_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def check_memory(name, ok, detail=""):
    """As check, of what memory a process takes."""
    if is_sanitized:
        return print(f"skip  {name}: a sanitizer keeps what was freed", flush=True)
    check(name, ok, detail)


def rss_kib(process):
    """KiB of a process that are in memory."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def equal(name, got, expected):
    """As check; says where two values part."""
    detail = f"got {shown(got)}, expected {shown(expected)}"
    check(name, got == expected, detail)


def shown(value, limit=400):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(value)} in all)"


# ---- processes ------------------------------------------------------------------------------


class Example:
    """A running example; `with` makes sure that it is gone afterwards, whatever happens."""

    def __init__(self, name, *flags, listen=("tcp://127.0.0.1:0",)):
        self.name, self.listen, self.addresses = name, listen, []
        urls = [part for url in listen for part in ("--listen", url)]
        driver = os.environ.get("EXAMPLE_DRIVER")
        chosen = ("--driver", driver) if driver and "--driver" not in flags else ()
        self.command = [os.path.join(directory, name), *urls, *flags, *chosen]

    def __enter__(self):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors
        )
        try:
            self.wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()  # does nothing to a process that was waited for
        self.process.wait()
        self.process.stdout.close()
        if is_sanitized and "Sanitizer" in self.stderr():
            check(f"{self.name}: no word of the sanitizer", False, self.stderr())
        self.errors.close()

    def wait_until_it_listens(self):
        end, text = time.monotonic() + DEADLINE, b""
        while text.count(b"\n") < len(self.listen):
            left = end - time.monotonic()
            output = self.process.stdout
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise TimeoutError(f"{self.command} printed only {text!r}")
            some = os.read(output.fileno(), 4096)
            if not some:
                self.process.wait()
                raise RuntimeError(f"{self.command} ended: {self.stderr()}")
            text += some
        for line in text.decode().splitlines():
            self.addresses.append(line.removeprefix("listening on "))

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def address(self, index=0):
        """What a socket connects to: a path, or host and port."""
        text = self.addresses[index]
        if text.startswith("unix:"):
            return text.removeprefix("unix:")
        host, port = text.rsplit(":", 1)
        return host.strip("[]"), int(port)

    def connect(self, index=0):
        return connect(self.address(index))

    def url(self, path):
        return "http://{}:{}{}".format(*self.address(), path)

    def send(self, number):
        self.process.send_signal(number)

    def end(self, number=signal.SIGINT):
        """Ends it by a signal: with exit code 0, and without a word."""
        self.send(number)
        code, errors = self.process.wait(DEADLINE), self.stderr()
        label = f"{self.name}: {number.name} ends it with exit code 0 and nothing on stderr"
        check(label, code == 0 and not errors, f"exit code {code}, stderr {errors!r}")


def refused(name, *flags):
    """Runs an example that must not start. Returns its exit code and what it says."""
    command = [os.path.join(directory, name), *flags]
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )
    if run.stdout:
        raise RuntimeError(f"{command} printed {run.stdout!r}")
    return run.returncode, run.stderr


# ---- sockets --------------------------------------------------------------------------------


def connect(address, kind=socket.SOCK_STREAM):
    if isinstance(address, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    peer = socket.socket(family, kind)
    peer.settimeout(DEADLINE)
    peer.connect(address)
    return contextlib.closing(peer)


def receive(peer, length):
    """Exactly `length` bytes, or fewer: at a close, a reset, or when the deadline passed."""
    received = bytearray()
    with contextlib.suppress(OSError):
        while len(received) < length:
            some = peer.recv(length - len(received))
            if not some:
                break
            received += some
    return bytes(received)


def receive_line(peer):
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = receive(peer, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def check_end(name, peer):
    """The server must close, in order, having sent nothing more."""
    try:
        equal(name, peer.recv(100), b"")
    except OSError as error:  # a reset, or the deadline
        check(name, False, error)


def is_silent(peer):
    return not select.select([peer], [], [], 0)[0]


def exchange(peer, message):
    """Sends all of it in the background, as the peer may answer before it has read it all."""
    sender = threading.Thread(target=peer.sendall, args=[message], daemon=True)
    sender.start()
    answer = receive(peer, len(message))
    sender.join(DEADLINE)
    return answer


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


# ---- echo -----------------------------------------------------------------------------------


def echo_on_every_transport():
    path = os.path.join(temporary, "echo.sock")
    urls = ["tcp://127.0.0.1:0", f"unix://{path}", "udp4://127.0.0.1:0"]
    urls += ["tcp6://[::1]:0", "udp6://[::1]:0"] if has_ipv6() else []
    # The second time the path must be free again.
    for round_name, number in ("first", signal.SIGINT), ("second", signal.SIGTERM):
        with Example("echo", listen=urls) as echo:
            for index, url in enumerate(urls):
                scheme = url.split(":")[0]
                exchange_of = echo_of_datagrams if scheme.startswith("udp") else echo_of_a_stream
                exchange_of(f"echo, {round_name} run: {scheme}", echo.address(index))
            equal(f"echo, {round_name} run: says the path", echo.addresses[1], f"unix:{path}")
            echo.end(number)
        gone = not os.path.lexists(path)
        check(f"echo, {round_name} run: the Unix path is gone", gone, f"{path} is still there")


def echo_of_a_stream(label, address):
    with connect(address) as first, connect(address) as second:
        for peer, text in (first, b"one"), (second, b"two"), (first, b"three"):
            peer.sendall(text)
            equal(f"{label} echoes {text.decode()!r}", receive(peer, len(text)), text)
        check(f"{label} echoes 1 MiB", exchange(first, pattern(MIB)) == pattern(MIB), "differs")
        first.shutdown(socket.SHUT_WR)
        check_end(f"{label} closes when the client has", first)


def echo_of_datagrams(label, address):
    with connect(address, socket.SOCK_DGRAM) as peer:
        for length in 0, 1, 1200, 65507:
            peer.send(pattern(length))
            name = f"{label} echoes a datagram of {length} bytes"
            check(name, peer.recv(65536) == pattern(length), "differs")


def echo_on_several_loops():
    for flags in ["--loops", "0"], ["--loops", "2", "--reuse-port"], ["--reuse-port"]:
        urls = ["tcp://127.0.0.1:0", "udp4://127.0.0.1:0"]
        with Example("echo", *flags, listen=urls) as echo, contextlib.ExitStack() as stack:
            peers = [stack.enter_context(echo.connect()) for _ in range(20)]
            answers = []
            for peer in peers:
                peer.sendall(b"hello")
            for peer in peers:
                answers.append(receive(peer, 5))
            equal(f"echo {' '.join(flags)}: 20 clients", answers, [b"hello"] * 20)
            echo_of_datagrams(f"echo {' '.join(flags)}: udp", echo.address(1))
            echo.end()


def echo_on_every_interface():
    with Example("echo", listen=["tcp://:0", ":0"]) as echo:
        for index in 0, 1:
            port = echo.address(index)[1]
            for host in ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]:
                with connect((host, port)) as peer:
                    peer.sendall(b"hello")
                    label = f"echo: {echo.listen[index]} is reached by {host}"
                    equal(label, receive(peer, 5), b"hello")
        echo.end()


def echo_at_the_second_signal():
    path = os.path.join(temporary, "stuck.sock")
    with Example("echo", listen=[f"unix://{path}"]) as echo:
        with echo.connect() as stuck, echo.connect() as idle:
            idle.sendall(b"x")
            receive(idle, 1)
            # More than the kernel holds on the way back, so that the stop has to wait for us.
            stuck.sendall(pattern(MIB))
            echo.send(signal.SIGINT)
            check_end("echo: the first signal closes idle connections", idle)
            echo.send(signal.SIGINT)
            equal("echo: the second signal ends it at once", echo.process.wait(DEADLINE), 130)


# ---- what must not start --------------------------------------------------------------------


def bad_flags_and_addresses():
    for name in "echo", "http", "push", "blocking":
        code, errors = refused(name, "--nonsense")
        check(f"{name}: an unknown flag", code == 2 and "--nonsense" in errors, errors)
        code, errors = refused(name, "--loops", "many")
        check(f"{name}: a number that is none", code == 2 and "many" in errors, errors)
        for url in "tcp://nonsense", "tcp://127.0.0.1:99999", "gopher://127.0.0.1:1", "":
            code, errors = refused(name, "--listen", url)
            named = errors.startswith("error: ") and f'"{url}"' in errors
            check(f"{name}: the bad address {url!r} is named", code == 1 and named, errors)
    for tick in "1", "ms", "0s", "nans", "5m":
        code, errors = refused("push", "--tick", tick)
        check(f"push: --tick {tick} is refused", code == 2 and f"'{tick}'" in errors, errors)


def addresses_in_use():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as holder:
        url = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        path = os.path.join(temporary, "half.sock")
        code, errors = refused("echo", "--listen", f"unix://{path}", "--listen", url)
        equal("echo: a port in use", code, 1)
        check("echo: a port in use is named", f"listen on {url}: " in errors, errors)
        check("echo: nothing half-started is left", not os.path.lexists(path), f"{path} is there")
    path = os.path.join(temporary, "taken.sock")
    with Example("echo", listen=[f"unix://{path}"]) as echo:
        code, errors = refused("echo", "--listen", f"unix://{path}")
        check("echo: a path in use is refused", code == 1 and path in errors, f"{code} {errors}")
        with echo.connect() as peer:
            peer.sendall(b"still here")
            equal("echo: the first server keeps the path", receive(peer, 10), b"still here")
        echo.end()
    with open(path, "w", encoding="ascii") as file:
        file.write("precious")
    code, errors = refused("echo", "--listen", f"unix://{path}")
    check("echo: a file is refused as a path", code == 1 and path in errors, f"{code} {errors}")
    with open(path, encoding="ascii") as file:
        equal("echo: the file is left alone", file.read(), "precious")


def killed_server():
    path = os.path.join(temporary, "killed.sock")
    with Example("echo", listen=[f"unix://{path}"]) as echo:
        echo.process.kill()
        echo.process.wait()
    check("echo: a killed server leaves its path", os.path.lexists(path), "it is gone")
    with Example("echo", listen=[f"unix://{path}"]) as echo:
        with echo.connect() as peer:
            peer.sendall(b"hello")
            equal("echo: takes over the path of a killed server", receive(peer, 5), b"hello")
        echo.end()


# ---- http -----------------------------------------------------------------------------------

DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"  # stands for any date
HELLO = b"Hello, World!"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"Connection: close\r\n"
HOST = b"Host: a"


def answer(status, body, extra=b"", kind=b"text/plain", head=False, connection=b""):
    lines = b"HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: %s\r\n%s"
    lines %= status, DATE, kind, extra
    lines += b"Content-Length: %d\r\n%s\r\n" % (len(body), connection)
    return lines + (b"" if head else body)


OK = answer(b"200 OK", HELLO)
OK_CLOSE = answer(b"200 OK", HELLO, connection=CLOSE)
JSON = answer(b"200 OK", b'{"message":"Hello, World!"}', kind=b"application/json")
NOT_FOUND = answer(b"404 Not Found", b"not found\n")
BAD_METHOD = answer(
    b"405 Method Not Allowed", b"only GET and HEAD\n", b"Allow: GET, HEAD, OPTIONS\r\n"
)


def same_but_date(received):
    return re.sub(rb"(?<=\r\nDate: )[^\r]{29}(?=\r\n)", DATE, received)


def ask(peer, request, expected, label):
    peer.sendall(request)
    equal(f"http: {label}", same_but_date(receive(peer, len(expected))), expected)


def request(line, *headers, body=b""):
    return b"\r\n".join([line, *headers, b"", body])


def http_answers(http):
    with http.connect() as peer:
        ask(peer, GET, OK, "GET /")
        ask(peer, request(b"GET /plaintext HTTP/1.1", HOST), OK, "GET /plaintext")
        ask(peer, request(b"GET /plaintext?a=b HTTP/1.1", HOST), OK, "a query is ignored")
        ask(peer, request(b"GET /json HTTP/1.1", HOST), JSON, "GET /json")
        for path in b"/nothing", b"/json/", b"//", b"/plaintext2":
            label = f"GET {path.decode()} is not found"
            ask(peer, request(b"GET %s HTTP/1.1" % path, HOST), NOT_FOUND, label)
        for method in b"POST", b"PUT", b"DELETE", b"PATCH":
            label = f"{method.decode()} / is not allowed"
            ask(peer, request(b"%s / HTTP/1.1" % method, HOST), BAD_METHOD, label)
        expected = answer(b"200 OK", HELLO, head=True)
        ask(peer, request(b"HEAD / HTTP/1.1", HOST) + GET, expected + OK, "HEAD /")
        expected = answer(b"404 Not Found", b"not found\n", head=True)
        ask(peer, request(b"HEAD /x HTTP/1.1", HOST) + GET, expected + OK, "HEAD /x")
        ask(peer, b"\r\n" + GET, OK, "an empty line before the request")
        ask(peer, GET, OK, "all of this on one socket")


def http_pipelining(http):
    with http.connect() as peer:
        ask(peer, GET * 100, OK * 100, "100 requests in one write")
        mixed = request(b"GET /json HTTP/1.1", HOST) + request(b"GET /no HTTP/1.1", HOST) + GET
        ask(peer, mixed * 30, (JSON + NOT_FOUND + OK) * 30, "90 answers in their order")
        for byte in GET[:-1]:
            peer.sendall(bytes([byte]))
        check("http: silent until the head is whole", is_silent(peer), "it answered")
        ask(peer, GET[-1:], OK, "a request byte by byte")
        ask(peer, GET + GET[:20], OK, "one and a half requests")
        ask(peer, GET[20:], OK, "the other half")
        last = request(b"GET / HTTP/1.1", HOST, CLOSE.strip())
        ask(peer, GET + last + GET, OK + OK_CLOSE, "close")
        check_end("http: nothing is answered after close", peer)


def http_persistence(http):
    stay = b"Connection: keep-alive\r\n"
    cases = [
        ("HTTP/1.0", b"GET / HTTP/1.0", [], CLOSE),
        ("HTTP/1.0 with keep-alive", b"GET / HTTP/1.0", [b"keep-alive"], stay),
        ("HTTP/1.0 with both", b"GET / HTTP/1.0", [b"keep-alive", b"close"], CLOSE),
        ("HTTP/1.0 with an Expect", b"GET / HTTP/1.0", [b"close\r\nExpect: 100-continue"], CLOSE),
        ("Connection: CLOSE", b"GET / HTTP/1.1", [b"CLOSE"], CLOSE),
        ("Connection: a, close", b"GET / HTTP/1.1", [b"a , close"], CLOSE),
        ("Connection: closed", b"GET / HTTP/1.1", [b"closed"], b""),
        ("Connection: keep-alive", b"GET / HTTP/1.1", [b"keep-alive"], b""),
    ]
    for label, line, options, extra in cases:
        with http.connect() as peer:
            headers = [b"Connection: " + option for option in options]
            expected = answer(b"200 OK", HELLO, connection=extra)
            ask(peer, request(line, HOST, *headers), expected, label)
            if extra == CLOSE:
                check_end(f"http: {label} closes", peer)
            else:
                ask(peer, GET, OK, f"{label} stays open")


def http_date(http):
    with http.connect() as peer:
        dates, end = [], time.monotonic() + DEADLINE
        while len(set(dates)) < 3 and time.monotonic() < end:
            peer.sendall(GET)
            text = re.search(rb"\r\nDate: ([^\r]+)\r\n", receive(peer, len(OK))).group(1)
            dates.append(email.utils.parsedate_to_datetime(text.decode()))
        check("http: the date goes on", len(set(dates)) == 3 and sorted(dates) == dates, dates)
        age = datetime.datetime.now(datetime.timezone.utc) - dates[-1]
        check("http: the date is right", abs(age.total_seconds()) < 10, f"{age} old")


def http_by_curl(http):
    if not shutil.which("curl"):
        return print("skip  http: there is no curl")

    def curl(*arguments):
        command = ["curl", "--silent", "--noproxy", "*", "--max-time", str(DEADLINE), *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=2 * DEADLINE).stdout

    body = os.path.join(temporary, "body")
    with open(body, "wb") as file:
        file.write(pattern(MIB))
    equal("http: curl", curl(http.url("/")), HELLO)
    equal("http: curl --include", same_but_date(curl("--include", http.url("/json"))), JSON)
    equal("http: curl --http1.0", curl("--http1.0", http.url("/")), HELLO)
    expected = answer(b"200 OK", HELLO, head=True)
    equal("http: curl --head", same_but_date(curl("--head", http.url("/"))), expected)
    count = ["--write-out", " %{num_connects}"]
    both = curl(*count, http.url("/"), http.url("/plaintext"))
    equal("http: curl keeps the connection", both, HELLO + b" 1" + HELLO + b" 0")
    code = ["--output", os.devnull, "--write-out", "%{http_code}", "--data-binary", f"@{body}"]
    equal("http: curl posts 1 MiB", curl(*code, http.url("/")), b"405")
    chunked = [*code, "--header", "Transfer-Encoding: chunked"]
    equal("http: curl posts in chunks", curl(*chunked, http.url("/echo")), b"200")


def http_protocol():
    """The example as it is usually spoken to; ci/http_clients.py is about all else."""
    parts = http_answers, http_pipelining, http_persistence, http_date
    with Example("http") as http:
        for part in parts + (http_by_curl,):
            part(http)
        http.end()
    with Example("http", "--loops", "2", "--reuse-port") as http:
        http_answers(http)
        http_pipelining(http)
        http.end(signal.SIGTERM)


# ---- stats ----------------------------------------------------------------------------------


def stats_are_shown():
    listen = ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    with Example("stats", "--loops", "2", listen=listen) as stats:
        with stats.connect() as peer:
            equal("stats: it echoes", exchange(peer, b"hello"), b"hello")
            with stats.connect(1) as scraper:
                scraper.sendall(request(b"GET /metrics HTTP/1.1"))
                text = receive(scraper, MIB).decode()
            check("stats: 200", text.startswith("HTTP/1.1 200 OK\r\n"), shown(text))
            lines = text.split("\r\n\r\n")[1].splitlines()
            numbers = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            equal("stats: accepted", numbers.get("tightloop_accepted_total"), "2")
            equal("stats: open", numbers.get("tightloop_open"), "2")
            kinds = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
            named = all(name.split("{")[0] in kinds for name in numbers)
            check("stats: every sample has a type", named, shown(numbers))
            with stats.connect(1) as scraper:
                scraper.sendall(request(b"GET /other HTTP/1.1"))
                line = receive_line(scraper)
                equal("stats: anything else", line, b"HTTP/1.1 404 Not Found\r\n")
        stats.end()


# ---- push -----------------------------------------------------------------------------------


def push_at_its_pace():
    started = time.monotonic()
    with Example("push", "--tick", "250ms") as push:
        with push.connect() as first, push.connect() as second:
            second.sendall(b"this is ignored")
            for name, peer in ("first", first), ("second", second):
                ticks = []
                for count in range(1, 6):
                    line = receive_line(peer)
                    now = time.monotonic() - started
                    match = re.fullmatch(rb"tick (\d+): line (\d+), connections here [12]\n", line)
                    label = f"push: line {count} of the {name} client"
                    if not match:
                        check(label, False, line)
                        continue
                    tick, number = int(match[1]), int(match[2])
                    early = now < 0.25 * (tick - 1)
                    check(label, number == count and not early, f"{line} after {now:.3f} s")
                    ticks.append(tick)
                consecutive = ticks == list(range(ticks[0], ticks[0] + 5))
                check(f"push: the {name} client misses no tick", consecutive, ticks)
            took = time.monotonic() - started
            check("push: 5 lines come in time", took < 10, f"{took:.1f} s")
        push.end()


def push_on_two_loops():
    with Example("push", "--tick", "0.05s", "--loops", "2") as push:
        with push.connect() as first, push.connect() as second:
            receive_line(first)
            receive_line(second)
            for name, peer in ("first", first), ("second", second):
                line = receive_line(peer)
                check(f"push: the {name} client is alone", line.endswith(b" here 1\n"), line)
            push.end(signal.SIGTERM)
            for name, peer in ("first", first), ("second", second):
                rest = receive(peer, MIB)
                whole = rest == b"" or rest.endswith(b"\n")
                check(f"push: the {name} client's last line is whole", whole, rest)


# ---- from_gnet_push -------------------------------------------------------------------------


def from_gnet_pushes():
    with Example("from_gnet_push", "--tick", "50ms", "--loops", "2") as push:
        with push.connect() as first, push.connect() as second:
            for name, peer in ("first", first), ("second", second):
                host, port = peer.getsockname()
                welcome = f"welcome {host}:{port}\n".encode()
                equal(f"from_gnet_push: the {name} client is greeted", receive_line(peer), welcome)
                ticks = []
                while len(ticks) < 4:
                    # Who came while the line was made is not counted in it.
                    match = re.fullmatch(rb"tick (\d+): [012] here\n", receive_line(peer))
                    if not match:
                        break
                    ticks.append(int(match[1]))
                consecutive = len(ticks) == 4 and ticks == list(range(ticks[0], ticks[0] + 4))
                check(f"from_gnet_push: the {name} client misses no tick", consecutive, ticks)
            second.sendall(b"hel")
            second.sendall(b"lo\nquit\nlost\n")
            end = receive(second, MIB)
            answers = [line for line in end.split(b"\n") if not line.startswith(b"tick ")]
            equal("from_gnet_push: it answers, and ends", answers, [b"what?", b"bye", b""])
            while receive_line(first).endswith(b" 2 here\n"):
                pass
            alone = receive_line(first)
            check("from_gnet_push: who is left is alone", alone.endswith(b": 1 here\n"), alone)
        push.end()


def from_gnet_passes_over_the_slow():
    """Whose answers wait, as he asks and does not read, misses lines; nobody else does."""
    with Example("from_gnet_push", "--tick", "20ms", "--loops", "2") as push:
        with push.connect() as slow, push.connect() as quick:
            sent = 0

            def ask():
                nonlocal sent
                with contextlib.suppress(OSError):  # closed at the end
                    while True:
                        sent += slow.send(b"\n" * 10_000)

            threading.Thread(target=ask, daemon=True).start()
            receive_line(quick)
            before, seen = -1, [ticks_of(quick, 1)[0]]
            # Until the server asks him no more: a megabyte waits for him then.
            end = time.monotonic() + DEADLINE
            while before != sent and time.monotonic() < end:
                before = sent
                seen += ticks_of(quick, 20)
            missed = ticks_of(quick, 5)
            seen += missed
            # Jobs overtake each other, so the last ones may still be on their way.
            lost = set(range(min(seen), max(seen) - 5)) - set(seen)
            check("from_gnet_push: who reads misses no line", not lost and before == sent, lost)
            got = []
            for line in slow.makefile("rb"):
                if line.startswith(b"tick "):
                    got.append(int(line[5:].split(b":")[0]))
                    if got[-1] > max(missed):
                        break
            check(
                "from_gnet_push: who does not read misses lines, and gets others again",
                not set(missed) & set(got) and got[-1] > max(missed),
                (missed, got[-5:]),
            )
        push.end()


def ticks_of(peer, count):
    return [int(receive_line(peer)[5:].split(b":")[0]) for _ in range(count)]


def from_gnet_limits():
    with Example("from_gnet_push") as push:
        with push.connect() as peer:
            receive_line(peer)
            peer.sendall(b"0" * 1025)
            closed = receive(peer, MIB)
            check("from_gnet_push: a line without an end closes", closed.count(b"\n") < 5, closed)
        with push.connect() as peer:
            receive_line(peer)
            peer.sendall(b"stop\n")
            code = push.process.wait(DEADLINE)
            equal("from_gnet_push: stop ends the server", (code, push.stderr()), (0, ""))


# ---- blocking -------------------------------------------------------------------------------


@patiently
def blocking_overlaps(slower):
    nap, long = 300 * slower, 2000 * slower
    with Example("blocking") as blocking:
        with blocking.connect() as sleeper, blocking.connect() as other:
            started = time.monotonic()
            sleeper.sendall(b"%d\n" % nap * 10)
            expected = b"slept %d\n" % nap * 10
            equal(f"blocking: 10 requests of {nap} ms", receive(sleeper, len(expected)), expected)
            took = time.monotonic() - started
            check("blocking: they overlap", nap <= 1000 * took < 7 * nap, f"{took:.2f} s")
            sleeper.sendall(b"%d\n" % long * 10)
            for text, expected in (b"0\n", b"slept 0\n"), (b"1\r\n", b"slept 1\n"):
                other.sendall(text)
                equal("blocking: another client is served", receive_line(other), expected)
            check("blocking: while the first still sleep", is_silent(sleeper), "they answered")
            other.sendall(b"%d\n1\n" % nap)
            answers = receive_line(other) + receive_line(other)
            equal("blocking: the quick overtakes the slow", answers, b"slept 1\nslept %d\n" % nap)
        # The sleepers are still at work, and their connection is gone.
        blocking.end()


def blocking_refuses():
    bad = b"error: not a number of milliseconds up to 60000\n"
    with Example("blocking") as blocking:
        with blocking.connect() as peer:
            for line in b"soon\n", b"\n", b"-1\n", b"60001\n", b"\xff\n", b"1 2\n":
                peer.sendall(line)
                equal(f"blocking: {line} is answered", receive_line(peer), bad)
            peer.sendall(b"0" * 1024 + b"\n")
            equal("blocking: a line of 1 KiB", receive_line(peer), b"slept 0\n")
        too_long = b"error: the line is too long\n"
        for name, end in ("that ends", b"\n0\n"), ("without an end", b""):
            with blocking.connect() as peer:
                peer.sendall(b"0" * 1025 + end)
                equal(f"blocking: a long line {name}", receive_line(peer), too_long)
                check_end(f"blocking: a long line {name} closes", peer)
        blocking.end(signal.SIGTERM)


@patiently
def blocking_when_full(slower):
    nap = 300 * slower
    with Example("blocking", "--workers", "1", "--queue", "1") as blocking:
        with blocking.connect() as peer:
            peer.sendall(b"%d\n" % nap * 10)
            answers = [receive_line(peer) for _ in range(10)]
            known = set(answers) == {b"busy\n", b"slept %d\n" % nap}
            check("blocking: a full pool says busy", known, answers)
            busy = answers.count(b"busy\n")
            at_once = busy >= 7 and answers[:busy] == [b"busy\n"] * busy
            check("blocking: at once", at_once, answers)
            peer.sendall(b"0\n")
            equal("blocking: and works again", receive_line(peer), b"slept 0\n")
        blocking.end()


# ---- codecs ---------------------------------------------------------------------------------


def run(name, *arguments):
    """Runs an example that ends by itself. Returns its exit code and its output."""
    command = [os.path.join(directory, name), *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )
    return done.returncode, done.stdout


def frame(body):
    return len(body).to_bytes(4, "big") + body


def codec_client_and_server():
    for flags in [], ["--loops", "2", "--reuse-port"]:
        with Example("codec_server", *flags) as server:
            url = f"tcp://{server.addresses[0]}"
            found = run("codec_client", "--connect", url)
            equal("codec_client: prints what returns", found, (0, "hello\nworld\n"))
            with server.connect() as peer:
                frames = frame(b"") + frame(pattern(70_000)) + frame(b"end")
                check("codec_server: frames return", exchange(peer, frames) == frames, "differ")
                for byte in frame(b"slow"):
                    peer.sendall(bytes([byte]))
                equal("codec_server: byte by byte", receive(peer, 8), frame(b"slow"))
            server.end()


def codec_server_refuses():
    with Example("codec_server", "--max-frame", "100") as server:
        with server.connect() as peer:
            peer.sendall(frame(b"good") + frame(pattern(97)))
            equal("codec_server: what is good returns", receive(peer, 8), frame(b"good"))
            check_end("codec_server: closes at a frame over its limit", peer)
        with server.connect() as peer:
            peer.sendall(frame(b"half")[:6])
            peer.shutdown(socket.SHUT_WR)
            check_end("codec_server: closes after half a frame", peer)
        server.send(signal.SIGTERM)
        code, errors = server.process.wait(DEADLINE), server.stderr()
        said = "the limit is 100" in errors and "within a frame" in errors
        check("codec_server: says why it closed", code == 0 and said, f"{code}, {errors!r}")
    code, errors = refused("codec_server", "--max-frame", "3")
    check("codec_server: refuses a bad limit", code == 1 and "max_frame" in errors, errors)


def codec_custom_protocol():
    with Example("codec_custom") as server:
        with server.connect() as peer:
            peer.sendall(b"TL\x01\x07\0\0\0\x02hiTL\x01\xff\0\0\0\0")
            expected = b"TL\x01\x08\0\0\0\x02hiTL\x01\0\0\0\0\0"
            equal("codec_custom: answers", receive(peer, len(expected)), expected)
            peer.sendall(b"GET / HTTP/1.1\r\n")
            check_end("codec_custom: closes at another protocol", peer)
        server.end(signal.SIGTERM)


def codec_vectors_file():
    text = '{"codec": "fixed", "config": {"frame_length": 2}, "chunks_hex": ["414243"], %s}'
    good = text % '"expect": [{"frame_hex": "4142"}], "note": "good"'
    bad = text % '"expect": [], "note": "bad"'
    unknown = good.replace(': 2}', ': 2, "colour": 1}')
    path = os.path.join(temporary, "vectors.json")
    for vectors, code, last in (good, 0, "1 passed, 0 failed"), (bad, 1, "0 passed, 1 failed"):
        with open(path, "w", encoding="ascii") as file:
            file.write(f"[{vectors}]")
        found, output = run("codec_vectors", path)
        equal("codec_vectors: counts", (found, output.splitlines()[-1]), (code, last))
    with open(path, "w", encoding="ascii") as file:
        file.write(f"[{unknown}]")
    code, errors = refused("codec_vectors", path)
    known = code == 1 and "colour" in errors
    check("codec_vectors: an unknown name is an error", known, errors)
    found, output = run("codec_vectors", "tests/vectors/codec_vectors.json")
    check("codec_vectors: all pass", found == 0 and output.endswith(" 0 failed\n"), output)


# ---- client ---------------------------------------------------------------------------------


def client(url, text, *flags):
    """Has the client send `text`; answers its exit code, what it prints and what it complains of."""
    command = [os.path.join(directory, "client"), "--connect", url, *flags]
    run = subprocess.run(command, input=text, capture_output=True, timeout=DEADLINE)
    return run.returncode, run.stdout, run.stderr.decode(errors="replace")


def client_and_echo():
    path = os.path.join(temporary, "client.sock")
    urls = ["tcp://127.0.0.1:0", f"unix://{path}", "udp4://127.0.0.1:0"]
    lines = b"one\ntwo\nand no end of line"
    with Example("echo", listen=urls) as echo:
        host, port = echo.address()
        for url in f"tcp://localhost:{port}", f"{host}:{port}", f"unix://{path}":
            equal(f"client: {url.split(':')[0]}", client(url, lines), (0, lines, ""))
            equal(f"client: {url.split(':')[0]}, no input", client(url, b""), (0, b"", ""))
            much = pattern(MIB).replace(b"\r", b"\n")
            code, got, errors = client(url, much)
            check("client: 1 MiB", (code, got, errors) == (0, much, ""), shown(errors))
        port = echo.address(2)[1]
        equal("client: udp", client(f"udp4://127.0.0.1:{port}", lines), (0, lines, ""))
        echo.end()


def client_reads_until_the_peer_ends():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = "tcp://127.0.0.1:{}".format(server.getsockname()[1])

        def serve():
            peer, _ = server.accept()
            with peer:
                peer.settimeout(DEADLINE)
                received = b""
                while some := peer.recv(4096):
                    received += some
                peer.sendall(b"behind your end: " + received)

        thread = threading.Thread(target=serve)
        thread.start()
        equal("client: half-close", client(url, b"hello\n"), (0, b"behind your end: hello\n", ""))
        thread.join(DEADLINE)


def client_says_what_is_wrong():
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    for url, word in [
        (f"tcp://127.0.0.1:{closed}", "refused"),
        (f"udp4://127.0.0.1:{closed}", "refused"),
        ("tcp://no-such-host.invalid:1", "no-such-host.invalid"),
        (f"unix://{temporary}/missing.sock", "could not connect"),
        ("tls://localhost:1", "TLS"),
    ]:
        code, output, errors = client(url, b"hello\n")
        told = code == 1 and not output and errors.startswith("error: ") and word in errors
        check(f"client: {url.split(':')[0]} that fails is told of, in a line", told, errors)
        equal(f"client: one line for {word}", errors.count("\n"), 1)
    code, _, errors = client("tcp://nowhere", b"")
    check("client: an address that is none is told of", code == 2 and "port" in errors, errors)


# ---- all of it ------------------------------------------------------------------------------

GROUPS = [
    echo_on_every_transport,
    echo_on_several_loops,
    echo_on_every_interface,
    echo_at_the_second_signal,
    bad_flags_and_addresses,
    addresses_in_use,
    killed_server,
    http_protocol,
    stats_are_shown,
    push_at_its_pace,
    push_on_two_loops,
    from_gnet_pushes,
    from_gnet_passes_over_the_slow,
    from_gnet_limits,
    blocking_overlaps,
    blocking_refuses,
    blocking_when_full,
    codec_client_and_server,
    codec_server_refuses,
    codec_custom_protocol,
    codec_vectors_file,
    client_and_echo,
    client_reads_until_the_peer_ends,
    client_says_what_is_wrong,
]


def main():
    global directory, temporary
    directory = sys.argv[1] if len(sys.argv) > 1 else directory
    if not os.path.isdir(directory):
        sys.exit(f"error: {directory} is no directory; build first: cargo build --examples")
    # As an exception, so that the examples are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="tightloop-") as temporary:
        for group in GROUPS:
            try:
                group()
            except Exception as error:
                traceback.print_exc()
                check(group.__name__, False, error)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
