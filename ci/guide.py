#!/usr/bin/env python3
"""Starts the program of each chapter of docs/guide and speaks to it as the chapter does; checks that
the code in the chapters is the code of the programs, and that links between documents lead somewhere.

    cargo build --all-features --examples && python3 ci/guide.py [DIRECTORY]

As ci/examples.py, with which it shares its tools. Uses openssl and haproxy where they are.
"""

import contextlib
import glob
import os
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import textwrap
import threading
import time
import urllib.request

import examples
from examples import DEADLINE, MIB, check, connect, equal, pattern, receive, receive_line

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
TCP = "tcp://127.0.0.1:0"

# ---- the text -------------------------------------------------------------------------------


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def chapters():
    return sorted(glob.glob("docs/guide/[0-9]*.md", root_dir=ROOT))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def the_code_is_that_of_the_programs():
    """Each block is a stretch of the program, and no line of the program is left out."""
    for path in chapters():
        text = read(path)
        program = re.search(r"\(\.\./\.\./(examples/guide/\w+\.rs)\)", text)[1]
        lines = read(program).splitlines()
        shown = [False] * len(lines)
        for block in blocks(text, "rust"):
            block = block.splitlines()
            places = [at for at in range(len(lines)) if is_at(lines, at, block)]
            check(f"{path}: a block of {program}", places, f"it is not there: {block[0]} ...")
            for at in places:
                shown[at : at + len(block)] = [True] * len(block)
        left_out = [
            line
            for line, is_shown in zip(lines, shown)
            if line and not is_shown and not line.startswith("//!")
        ]
        equal(f"{path}: shows all of {program}", left_out, [])


def is_at(lines, at, block):
    stretch = "\n".join(lines[at : at + len(block)])
    return textwrap.dedent(stretch) == textwrap.dedent("\n".join(block))


def every_chapter_is_in_the_contents():
    contents = read("docs/guide/README.md")
    linked = re.findall(r"\]\((\d\d-[\w-]+\.md)\)", contents)
    equal("docs/guide/README.md: the chapters, in order", linked, [os.path.basename(c) for c in chapters()])
    in_readme = re.findall(r"\]\(docs/guide/(\d\d-[\w-]+\.md)\)", read("README.md"))
    equal("README.md: the chapters, in order", in_readme, linked)


def links_lead_somewhere():
    documents = [path for where in ("*.md", "docs/**/*.md") for path in glob.glob(where, root_dir=ROOT, recursive=True)]
    for path in sorted(documents):
        text = re.sub(r"^```.*?^```$", "", read(path), flags=re.MULTILINE | re.DOTALL)
        broken = []
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", link):
                continue  # not a file of ours
            target, _, heading = link.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            if not os.path.exists(os.path.join(ROOT, file)):
                broken.append(link)
            elif heading and file.endswith(".md") and heading not in headings(read(file)):
                broken.append(link)
        equal(f"{path}: its links", broken, [])


def headings(text):
    """As the usual code hosts name them."""
    for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def the_chapter_says(number, *lines):
    """What was seen here is what the reader is shown."""
    path = chapters()[number - 1]
    shown = read(path).splitlines()
    missing = [line for line in lines if line not in shown]
    equal(f"{path}: shows what was answered", missing, [])


# ---- programs -------------------------------------------------------------------------------


class Program(examples.Example):
    """A program of the guide, whose addresses are its first arguments."""

    def __init__(self, name, *arguments, listens=1):
        self.name, self.listen, self.addresses = name, [None] * listens, []
        self.command = [os.path.join(examples.directory, f"guide_{name}"), *arguments]
        self.output = b""

    def __enter__(self):
        self.errors = examples.tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors
        )
        try:
            for _ in self.listen:
                line = self.says(rb"listening on (.*)\n")
                self.addresses.append(line[1].decode())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        super().__exit__()

    def says(self, expression):
        """Waits for it on standard output, behind what was waited for before."""
        end = time.monotonic() + DEADLINE
        while not (match := re.search(expression, self.output)):
            left = end - time.monotonic()
            pipe = self.process.stdout
            some = left > 0 and select.select([pipe], [], [], left)[0] and os.read(pipe.fileno(), 4096)
            if not some:
                raise TimeoutError(f"{self.command} said {self.output!r}, no {expression}: {self.stderr()}")
            self.output += some
        self.output = self.output[match.end() :]
        return match

    def types(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def connected(self, index=0):
        """A socket that is closed when the `with` of the caller ends."""
        return connect(self.address(index))

    def ends(self):
        code, errors = self.process.wait(DEADLINE), self.stderr()
        check(f"{self.name}: ends in order", code == 0 and not errors, f"{code}, {errors!r}")


def asks(label, peer, question, answer):
    peer.sendall(question)
    equal(f"{label}: {question[:40]!r}", receive(peer, len(answer)), answer)


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


# ---- the chapters ---------------------------------------------------------------------------


def chapter_1_first_server():
    with Program("first_server", TCP) as server:
        with server.connected() as peer:
            port = peer.getsockname()[1]
            equal("first_server: greets", receive_line(peer), b"hello, 127.0.0.1:%d\n" % port)
            asks("first_server", peer, b"one\n", b"one\n")
            asks("first_server", peer, b"two\n", b"two\n")
        server.says(rb"127.0.0.1:%d: closed by the peer\n" % port)
        with server.connected() as peer:
            receive_line(peer)
            reset(peer)
        reason = server.says(rb": (reset by the peer: .*)\n")[1].decode()
        check("first_server: tells a reset", reason, "")
        taken = "tcp://{}:{}".format(*server.address())
        _, errors = examples.refused("guide_first_server", taken)
        check("first_server: a port that is taken", "kind: AddrInUse" in errors, errors)
    _, errors = examples.refused("guide_first_server", "tcp://nowhere")
    expected = 'Error: Address(AddressError { input: "tcp://nowhere", fault: MissingPort })\n'
    equal("first_server: an address that is none", errors, expected)


def chapter_2_framing():
    with Program("framing", TCP, TCP, listens=2) as server:
        for index, too_long in (0, b"what?\n"), (1, b"that line is too long\n"):
            label = ["by hand", "with a codec"][index]
            with server.connected(index) as peer:
                peer.sendall(b"6 * 7\n1 +")
                equal(f"{label}: one line and a half", receive(peer, 3), b"42\n")
                asks(label, peer, b" 1\n10 / 0\n", b"2\nwhat?\n")
                for byte in b"2 + 2\n9223372036854775807 + 1\n":
                    peer.sendall(bytes([byte]))
                equal(f"{label}: a byte at a time", receive(peer, 8), b"4\nwhat?\n")
                asks(label, peer, b"1" * 100 + b"\n2 + 2\n", too_long + b"4\n")
        with server.connected(0) as peer:
            peer.sendall(b"1" * 100)
            examples.check_end("by hand: a line without an end is not waited for", peer)
    the_chapter_says(2, "42", "2", "what?", "that line is too long", "4")


def chapter_3_chat():
    with Program("chat", TCP) as server, server.connected() as ann:
        equal("chat: asks ann", receive_line(ann), b"your name?\n")
        asks("chat", ann, b"ann\n", b"ann is here (1 now), on loop 0\n")
        with server.connected() as bob:
            equal("chat: asks bob", receive_line(bob), b"your name?\n")
            bob.sendall(b"bob\n")
            for name, member in ("ann", ann), ("bob", bob):
                expected = b"bob is here (2 now), on loop 1\n"
                equal(f"chat: {name} hears of bob", receive_line(member), expected)
            asks("chat", ann, b"hello, bob\n", b"ann: hello, bob\n")
            equal("chat: bob hears it", receive_line(bob), b"ann: hello, bob\n")
            asks("chat", bob, b"hello, ann\n", b"bob: hello, ann\n")
            equal("chat: ann hears it", receive_line(ann), b"bob: hello, ann\n")
            ann.close()
            equal("chat: bob is told", receive_line(bob), b"ann is gone (1 left)\n")
            server.types(b"\n")
            examples.check_end("chat: the end is told to bob", bob)
        server.says(rb"loop \d has passed on 1 lines\n")
        server.says(rb"loop \d has passed on 1 lines\n")
        server.ends()
    the_chapter_says(
        3,
        *["your name?", "ann is here (1 now), on loop 0", "bob is here (2 now), on loop 1"],
        *["ann: hello, bob", "bob: hello, ann", "ann is gone (1 left)"],
        *["press Enter to stop", "loop 0 has passed on 1 lines", "loop 1 has passed on 1 lines"],
    )


def chapter_4_threads():
    files = os.path.join(examples.temporary, "files")
    os.mkdir(files)
    with open(os.path.join(files, "numbers"), "w", encoding="ascii") as file:
        file.writelines(f"{number}\n" for number in range(1, 1001))
    answers = [
        *["numbers: reading", "numbers: 1000 lines"],
        *["nothing: reading", "error: No such file or directory (os error 2)"],
        *["numbers: reading", "numbers: 1000 lines", "only plain names"],
    ]
    with Program("blocking", TCP, files) as server, server.connected() as peer:
        expected = "".join(f"{answer}\n" for answer in answers).encode()
        asks("blocking", peer, b"numbers\nnothing\nnumbers\n../etc/passwd\n", expected)
        server.types(b"back in a minute\n")
        equal("blocking: the operator", receive_line(peer), b"operator: back in a minute\n")
        server.process.stdin.close()
        examples.check_end("blocking: the end of the input is the end", peer)
        server.ends()
    the_chapter_says(4, *answers, "operator: back in a minute")


@examples.patiently
def chapter_5_limits(_):
    with Program("limits", TCP) as server, contextlib.ExitStack() as stack:
        silent, since = stack.enter_context(server.connected()), time.monotonic()
        with server.connected() as peer:
            asks("limits", peer, b"many\n", b"how many bytes?\n")
            peer.sendall(b"10000000\n")
            peer.shutdown(socket.SHUT_WR)
            equal("limits: ten million bytes", receive(peer, 10_000_000), b"x" * 10_000_000)
            examples.check_end("limits: then the end", peer)
        before = memory(server)
        many = [stack.enter_context(server.connected()) for _ in range(50)]
        for peer in many:
            peer.sendall(b"10000000000\n")
        received = [len(receive(peer, 100_000)) for peer in many]
        equal("limits: each of 50 gets something", received, [100_000] * 50)
        more = memory(server) - before
        check("limits: in little memory", more < 4 * MIB, f"{more} bytes for 50 connections")
        for peer in many:
            reset(peer)
        for _ in many:
            server.says(rb"reset by the peer: .*, [1-9]\d* bytes not written\n")
        examples.check_end("limits: who says nothing is closed", silent)
        took = time.monotonic() - since
        check("limits: not before two seconds", took >= 2, f"{took} s")
        server.says(rb"the peer never said anything, 0 bytes not written\n")
    the_chapter_says(5, "how many bytes?")


def memory(server):
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@examples.patiently
def chapter_6_time(slower):
    with Program("time", TCP, str(300 * slower)) as server:
        with server.connected() as well, server.connected() as gone:
            for _ in range(5):  # more than may be missed
                equal("time: a ping", receive_line(well), b"ping\n")
                well.sendall(b"pong\n")
            asks("time", well, b"quit\n", b"bye\n")
            examples.check_end("time: then the end", well)
            expected = b"ping\nping\nping\nyou seem to be gone\n"
            equal("time: who is silent is told", receive(gone, len(expected)), expected)
            examples.check_end("time: and closed", gone)
        server.says(rb"1 well, 0 silent\n|1 well, 1 silent\n|2 well, 0 silent\n")
    the_chapter_says(6, "ping", "bye", "you seem to be gone", "1 well, 0 silent")


def chapter_7_udp():
    with Program("udp", "udp://127.0.0.1:0") as server:
        with connect(server.address(), socket.SOCK_DGRAM) as watcher:
            asks("udp", watcher, b"get t\n", b"no t\n")
            asks("udp", watcher, b"watch t\n", b"watching\n")
            with connect(server.address(), socket.SOCK_DGRAM) as other:
                asks("udp", other, b"set t 21.5 C\n", b"done\n")
                asks("udp", other, b"get t", b"t 21.5 C\n")
                asks("udp", other, b"what", b"error: get KEY, set KEY VALUE or watch KEY\n")
                asks("udp", other, b"set t " + b"x" * 200, b"error: too long\n")
                asks("udp", other, b"\xff", b"error: not text\n")
            equal("udp: the watcher is told", watcher.recv(100), b"t 21.5 C\n")
    the_chapter_says(
        7,
        *["no t", "watching", "done", "t 21.5 C", "error: get KEY, set KEY VALUE or watch KEY"],
    )


def chapter_8_tls():
    if not shutil.which("openssl"):
        print("skip: chapter 8 without openssl")
        return
    certificate, key = (os.path.join(examples.temporary, name) for name in ("cert.pem", "key.pem"))
    made_by = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    made_by += ["-nodes", "-days", "30", "-keyout", key, "-out", certificate]
    made_by += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(made_by, check=True, capture_output=True)
    trusting = ssl.create_default_context(cafile=certificate)
    with socket.create_server(("127.0.0.1", 0)) as back_end:
        back_end.settimeout(DEADLINE)
        url = "tcp://127.0.0.1:{}".format(back_end.getsockname()[1])
        with Program("forward_tls", "tls://127.0.0.1:0", url, certificate, key) as server:
            with server.connected() as plain:
                peer = trusting.wrap_socket(plain, server_hostname="localhost")
                server.says(rb"127.0.0.1:\d+: TLSv1.3 \w+\n")
                peer.sendall(b"hello")
                behind, _ = back_end.accept()
                behind.settimeout(DEADLINE)
                equal("forward_tls: forth", receive(behind, 5), b"hello")
                behind.sendall(b"good day")
                equal("forward_tls: back", receive(peer, 8), b"good day")
                for way, a, b in ("forth", peer, behind), ("back", behind, peer):
                    message = pattern(5 * MIB)
                    sender = threading.Thread(target=a.sendall, args=[message], daemon=True)
                    sender.start()
                    got = receive(b, len(message))
                    check(f"forward_tls: 5 MiB {way}", got == message, f"{len(got)} bytes")
                    sender.join(DEADLINE)
                behind.close()
                equal("forward_tls: the end of one is the end of the other", peer.recv(1), b"")
                peer.close()
            server.says(rb": closed by the peer\n127.0.0.1:\d+: closed by the handler\n")
            with server.connected() as plain, contextlib.suppress(ssl.SSLError):
                ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
            server.says(rb": TLS: received fatal alert: UnknownCA\n")
            back_end.close()
            with server.connected() as plain:
                peer = trusting.wrap_socket(plain, server_hostname="localhost")
                equal("forward_tls: nobody is behind it", peer.recv(1), b"")
                peer.close()
            server.says(rb": could not connect: Connection refused .*\n")


def chapter_9_running():
    with Program("running", TCP, TCP, TCP, listens=3) as server:
        with server.connected() as direct:
            me = b"127.0.0.1:%d" % direct.getsockname()[1]
            equal("running: knows me", receive_line(direct), b"you are " + me + b"\n")
            with urllib.request.urlopen("http://{}:{}/metrics".format(*server.address(1))) as answer:
                numbers = answer.read().decode()
            the_chapter_says(9, *re.findall("^service_(?:accepted|opened|open).*$", numbers, re.MULTILINE))
            with server.connected(2) as proxied:
                proxied.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\nhello")
                equal("running: by a proxy", receive_line(proxied), b"you are 192.0.2.1:4711\n")
                expected = b"your proxy is 127.0.0.1:%d\n" % proxied.getsockname()[1]
                equal("running: and which", receive_line(proxied), expected)
                equal("running: what follows", receive(proxied, 5), b"hello")
            with server.connected(2) as stranger:
                stranger.sendall(b"hello")
                equal("running: no header, no service", receive(stranger, 100), b"")
            behind_haproxy(server)
            server.send(signal.SIGTERM)
            server.says(rb"draining \d connections\n")
            asks("running: who is there may finish", direct, b"still here\n", b"still here\n")
            check("running: nobody new comes in", is_shut(server), "still somebody does")
        server.says(rb"stopping 0 connections\nended in order\n")
        server.ends()
    with Program("running", TCP, TCP, TCP, listens=3) as server, server.connected() as peer:
        receive_line(peer)
        server.send(signal.SIGINT)
        server.says(rb"draining 1 connections\n")
        server.send(signal.SIGINT)
        server.says(rb"stopping 1 connections\nended in order\n")
        examples.check_end("running: a second signal does not wait", peer)
        server.ends()


def is_shut(server):
    """Soon: the listeners close behind the line that tells of it."""
    end = time.monotonic() + DEADLINE
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            with server.connected() as late:
                if late.recv(100) == b"":
                    break
        else:
            return False
    return True


def behind_haproxy(server):
    """With the configuration of the chapter, on other ports."""
    haproxy = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if not haproxy:
        print("skip: chapter 9 without haproxy")
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (configuration,) = blocks(read(chapters()[8]), "haproxy")
    configuration = configuration.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    configuration = configuration.replace("127.0.0.1:9001", "{}:{}".format(*server.address(2)))
    path = os.path.join(examples.temporary, "haproxy.cfg")
    with open(path, "w", encoding="ascii") as file:
        file.write(configuration)
    with subprocess.Popen([haproxy, "-db", "-f", path], stderr=subprocess.DEVNULL) as proxy:
        try:
            end = time.monotonic() + DEADLINE
            while True:
                try:
                    peer = socket.create_connection(("127.0.0.1", port), DEADLINE)
                    break
                except ConnectionRefusedError:  # it has not begun to listen
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.01)
            with peer:
                expected = b"you are 127.0.0.1:%d\n" % peer.getsockname()[1]
                equal("running: behind HAProxy", receive_line(peer), expected)
                line = receive_line(peer)
                check("running: which says so", line.startswith(b"your proxy is 127.0.0.1:"), line)
        finally:
            proxy.kill()


@examples.patiently
def chapter_10_tuning(_):
    with Program("tuning", TCP, "2", "poll") as server:
        with server.connected() as peer:
            asks("tuning", peer, b"hello\n", b"hello\n")
            asks("tuning", peer, b"sleep\n", b"sleep\n")
            server.says(rb"open 1, turns [1-9]\d*, in \d+ kB, .* stalls 1\n")
    _, errors = examples.refused("guide_tuning", TCP, "2000")
    expected = 'Error: Option { name: "loops", reason: "must be at most 1024" }\n'
    equal("tuning: too many loops", errors, expected)
    the_chapter_says(10, expected.rstrip())



examples.GROUPS = [
    the_code_is_that_of_the_programs,
    every_chapter_is_in_the_contents,
    links_lead_somewhere,
    chapter_1_first_server,
    chapter_2_framing,
    chapter_3_chat,
    chapter_4_threads,
    chapter_5_limits,
    chapter_6_time,
    chapter_7_udp,
    chapter_8_tls,
    chapter_9_running,
    chapter_10_tuning,
]

if __name__ == "__main__":
    examples.main()
