#!/usr/bin/env python3
"""Checks that the servers of peers.json do what the bench asks of a system: every byte back and in
order under short writes, half-closes and split requests; back-pressure; `ready`; an end on SIGTERM.

    ./check.py                    every system that is built
    ./check.py floor tokio        these
    ./check.py --mode udp         only this mode
    ./check.py --program ../../target/release/tightloop-system --modes echo,udp
                                  a program that is not in peers.json

Ends with 1 if anything was wrong. Whatever it starts, it ends.
"""

import argparse
import json
import os
import random
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
READY_SECONDS = 30  # a JVM on a busy machine
STOP_SECONDS = 30
PATIENCE_SECONDS = 60  # without any progress
MIB = 1 << 20


class Wrong(Exception):
    """What the server did wrong, in one line."""


def expect(truth, what):
    if not truth:
        raise Wrong(what)


class Server:
    """A system under test: started, waited for, and ended whatever happens."""

    def __init__(self, argv, mode, host="127.0.0.1", options=()):
        self.largest_datagram = 2048 if "--mmsg" in argv else 65_507
        self.address = (host, free_port(host))
        place = f"[{host}]" if ":" in host else host
        self.process = subprocess.Popen(
            [*argv, mode, f"{place}:{self.address[1]}", *options], cwd=HERE, stdout=subprocess.PIPE
        )

    def __enter__(self):
        try:
            readable, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
            line = self.process.stdout.readline() if readable else b"(nothing in time)"
            expect(line == b"ready\n", f"said {line!r} instead of ready")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                expect(self.process.poll() is None, "ended by itself")
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    raise Wrong("did not end on SIGTERM") from None
        finally:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def connect(self, receive_bytes=None):
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(PATIENCE_SECONDS)
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect(self.address)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client


def free_port(host):
    """Below those that the system gives to whoever asks for any: nobody takes it before the server does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1000):
        port = random.randrange(12_000, 32_000)
        with socket.socket(family) as probe:
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue
    raise Wrong("no port is free")


def receive_exactly(client, length, piece=MIB):
    parts = []
    while length:
        try:
            part = client.recv(min(length, piece))
        except TimeoutError:
            raise Wrong(f"{length} bytes did not come") from None
        expect(part, f"closed with {length} bytes to come")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def expect_bytes(client, wanted, what, piece=MIB):
    expect(receive_exactly(client, len(wanted), piece) == wanted, f"{what}: other bytes came back")


def expect_end(client, what):
    try:
        expect(client.recv(1) == b"", f"{what}: more bytes than were sent")
    except TimeoutError:
        raise Wrong(f"{what}: the connection stayed open") from None


def expect_nothing_left(client, what):
    client.settimeout(0.2)
    try:
        expect(False, f"{what}: {client.recv(100)!r} too much")
    except TimeoutError:
        pass


def echo_many(server, dice):
    """Random chunks over many connections, several of them in flight at a time."""
    clients = [server.connect() for _ in range(200)]
    for _ in range(5):
        sent = [dice.randbytes(dice.choice([1, 2, 64, 4096, 4097, 65536, 100_000])) for _ in clients]
        for client, bytes_ in zip(clients, sent):
            part = dice.randint(0, len(bytes_))
            client.sendall(bytes_[:part])
            client.sendall(bytes_[part:])
        for client, bytes_ in zip(clients, sent):
            expect_bytes(client, bytes_, "200 connections")
    for client in clients:
        client.close()


def echo_slow_readers(server, dice):
    """1 MiB each to readers that take a little at a time into a small window, beside a fast one."""
    slow = [server.connect(receive_bytes=4096) for _ in range(20)]
    sent = [dice.randbytes(MIB) for _ in slow]
    writers = [threading.Thread(target=c.sendall, args=(b,)) for c, b in zip(slow, sent)]
    for writer in writers:
        writer.start()
    with server.connect() as fast:
        for _ in range(50):
            message = dice.randbytes(1000)
            fast.sendall(message)
            expect_bytes(fast, message, "beside slow readers")
    for client, bytes_ in zip(slow, sent):
        expect_bytes(client, bytes_, "a slow reader", piece=3000)
    for writer, client in zip(writers, slow):
        writer.join()
        client.close()


def echo_back_pressure(server, dice):
    """Who does not read is not read; and nothing is lost when it reads at last."""
    limit = 64 * MIB
    block = dice.randbytes(MIB)
    with server.connect() as client:
        client.settimeout(1.0)
        sent = 0
        try:
            while sent < limit:
                sent += client.send(block[sent % MIB :])
        except TimeoutError:
            pass
        expect(sent < limit, "took 64 MiB from a client that reads nothing")
        client.settimeout(PATIENCE_SECONDS)
        for start in range(0, sent, MIB):
            expect_bytes(client, block[: min(MIB, sent - start)], "after the pause")
        client.sendall(b"still here")
        expect_bytes(client, b"still here", "after the pause")


def echo_half_close(server, dice):
    """Bytes sent before the end come back, then the end comes back."""
    for length in (0, 1, 64, 65536, MIB, 3 * MIB + 1):
        bytes_ = dice.randbytes(length)
        with server.connect() as client:
            def write():
                client.sendall(bytes_)
                client.shutdown(socket.SHUT_WR)
            writer = threading.Thread(target=write)
            writer.start()
            expect_bytes(client, bytes_, f"half-close after {length}")
            expect_end(client, f"half-close after {length}")
            writer.join()


def echo_churn(server, dice):
    """Connect, one message, close: many times, and some resets, and the descriptors come back."""
    before = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    for turn in range(500):
        with server.connect() as client:
            message = dice.randbytes(64)
            client.sendall(message)
            if turn % 10 == 0:
                linger = b"\x01\0\0\0\0\0\0\0"  # on, 0 seconds: close resets
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                expect_bytes(client, message, "churn")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (now := len(os.listdir(f"/proc/{server.process.pid}/fd"))) > before + 20:
        expect(time.monotonic() < deadline, f"{now - before} descriptors stayed open")
        time.sleep(0.05)


def udp_echo(server, dice):
    """Datagrams of every size, from several sockets, to their senders."""
    family = socket.AF_INET6 if ":" in server.address[0] else socket.AF_INET
    clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(20)]
    for client in clients:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(server.address)
    # No more in flight than half of a socket's buffer holds: a server that does not get a core for a while
    # loses what is beyond, and is right.
    for size, in_flight in ((1, 8), (64, 8), (64, 8), (512, 4), (1472, 2), (9000, 4), (60_000, 1)):
        if size > server.largest_datagram:
            continue
        sent = {}
        for client in clients[: 20 if size < 2000 else 1]:
            sent[client] = [dice.randbytes(size) for _ in range(in_flight)]
            for datagram in sent[client]:
                client.send(datagram)
        for client, datagrams in sent.items():
            try:
                came = [client.recv(65536) for _ in datagrams]
            except TimeoutError:
                raise Wrong(f"a datagram of {size} bytes did not come back") from None
            expect(sorted(came) == sorted(datagrams), f"other datagrams of {size} bytes came back")
    for client in clients:
        client.close()


UDP_SEGMENT = 103


def udp_joined(server, dice):
    """A client that sends many at once, of one size with a shorter last one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(server.address)
        try:
            client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        except OSError:
            return  # an older kernel
        bytes_ = dice.randbytes(1650)
        client.send(bytes_)
        came = sorted(client.recv(65536) for _ in range(17))
        expect(came == sorted(bytes_[at : at + 100] for at in range(0, 1650, 100)), "joined datagrams")


REQUEST = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"


def read_response(stream):
    status = stream.readline()
    expect(status.startswith(b"HTTP/1.1 200 "), f"answered {status!r}")
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, value = line.decode("latin1").split(":", 1)
        headers[name.strip().lower()] = value.strip()
    expect(headers.get("content-type", "").startswith("text/plain"), f"no text/plain in {headers}")
    expect(headers.get("content-length") == "13", f"no length 13 in {headers}")
    body = stream.read(13)
    expect(body == b"Hello, World!", f"body {body!r}")


def http_pipelined(server, dice):
    """16 requests at once, and 3,000 at once, then one by one, on many connections."""
    for depth in (1, 16, 16, 3000):
        with server.connect() as client, client.makefile("rb") as stream:
            writer = threading.Thread(target=client.sendall, args=(REQUEST * depth,))
            writer.start()
            for _ in range(depth):
                read_response(stream)
            writer.join()
            for _ in range(3):
                client.sendall(REQUEST)
                read_response(stream)
            expect_nothing_left(client, "after the answers")


def http_split(server, dice):
    """Requests cut at every place, and at random places while several are under way."""
    with server.connect() as client, client.makefile("rb") as stream:
        for at in range(1, len(REQUEST), 3):
            client.sendall(REQUEST[:at])
            time.sleep(0.002)  # so that it arrives alone
            client.sendall(REQUEST[at:])
            read_response(stream)
        bytes_ = REQUEST * 40
        while bytes_:
            part = dice.randint(1, 150)
            client.sendall(bytes_[:part])
            time.sleep(0.001)
            bytes_ = bytes_[part:]
        for _ in range(40):
            read_response(stream)
        expect_nothing_left(client, "after the answers")


def broadcast_fifty(server, dice):
    """Every byte to all of 50, in one order for all, also large ones to slow readers."""
    clients = [server.connect(receive_bytes=4096 if i % 10 == 9 else None) for i in range(50)]
    for client in clients:  # once it has heard something, the server knows it
        client.sendall(b"x")
        receive_exactly(client, 1)
    clients[0].sendall(b"#")
    for client in clients:
        while receive_exactly(client, 1) != b"#":
            pass
    for size in (1, 128, 128, 5000, 100_000, 2 * MIB):
        message = dice.randbytes(size)
        readers = []
        failures = []

        def read(client):
            try:
                expect_bytes(client, message, f"broadcast of {size}", piece=65536)
            except (Wrong, OSError) as wrong:
                failures.append(wrong)

        for client in clients:
            readers.append(threading.Thread(target=read, args=(client,)))
            readers[-1].start()
        dice.choice(clients).sendall(message)
        for reader in readers:
            reader.join()
        expect(not failures, f"{len(failures)} of 50: {failures[:1]}")
    for client in clients[::2]:  # some leave, with a reset or without; the others hear on
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    clients[1].sendall(b"to those who stayed")
    for client in clients[1::2]:
        expect_bytes(client, b"to those who stayed", "after others left")
        client.close()


def broadcast_congested(server, dice):
    """One receiver that does not read: the publisher is held, nothing is lost, it goes on."""
    limit = 64 * MIB
    block = dice.randbytes(MIB)
    with server.connect() as stuck, server.connect() as publisher:
        stuck.sendall(b"!")
        expect_bytes(stuck, b"!", "hears itself")
        publisher.settimeout(1.0)
        taken = threading.Thread(target=drain, args=(publisher,))
        taken.start()
        sent = 0
        try:
            while sent < limit:
                sent += publisher.send(block[sent % MIB :])
        except TimeoutError:
            pass
        expect(sent < limit, "took 64 MiB that one receiver does not read")
        for start in range(0, sent, MIB):
            expect_bytes(stuck, block[: min(MIB, sent - start)], "the receiver that waited")
        publisher.shutdown(socket.SHUT_RDWR)
        taken.join()


def drain(client):
    try:
        while True:
            try:
                if not client.recv(MIB):
                    return
            except TimeoutError:
                continue
    except OSError:
        return


CHECKS = {
    "echo": [echo_many, echo_slow_readers, echo_back_pressure, echo_half_close, echo_churn],
    "udp": [udp_echo, udp_joined],
    "http": [http_pipelined, http_split],
    "broadcast": [broadcast_fifty, broadcast_congested],
}


# What a framework cannot do is said and not counted as wrong: the bench still may measure it.
CANNOT_STOP_READING = "gnet has no way to stop reading a connection"
# tightloop could, by pausing whoever publishes; its way with a receiver that takes nothing is to end it
# at the bound of its pending output (OutputLimit), so that one receiver does not hold up all others.
ENDS_THE_RECEIVER = "tightloop-system ends a receiver that takes nothing, at a bound"
LIMITS = {
    ("tightloop-system", "broadcast_congested"): ENDS_THE_RECEIVER,
    ("gnet", "echo_back_pressure"): CANNOT_STOP_READING,
    ("gnet", "broadcast_congested"): CANNOT_STOP_READING,
}


def check_command_line(argv):
    version = subprocess.run([*argv, "--version"], cwd=HERE, capture_output=True, timeout=30)
    lines = version.stdout.decode().splitlines()
    expect(version.returncode == 0 and len(lines) == 1, f"--version said {version.stdout!r}")
    unknown = subprocess.run(
        [*argv, "nonsense", "127.0.0.1:0"], cwd=HERE, capture_output=True, timeout=30
    )
    expect(unknown.returncode == 2, f"an unknown mode ended with {unknown.returncode}")
    expect(unknown.stderr.strip(), "an unknown mode is not explained")
    return lines[0]


def check_threads(argv, mode):
    with Server(argv, mode, options=["--threads", "2"]) as server:
        CHECKS[mode][0](server, random.Random(2))


def check(system, modes, seed):
    """Returns passed and failed, and prints each."""
    argv = system["program"]
    passed = failed = 0

    def one(name, action):
        nonlocal passed, failed
        start = time.monotonic()
        try:
            said = action()
        except (Wrong, OSError, subprocess.SubprocessError) as wrong:
            failed += 1
            print(f"{system['name']:14} {name:32} WRONG: {wrong}", flush=True)
            return
        passed += 1
        seconds = time.monotonic() - start
        print(f"{system['name']:14} {name:32} {said or 'right'} ({seconds:.1f} s)", flush=True)

    def in_server(mode, action, **place):
        with Server(argv, mode, **place) as server:
            action(server, random.Random(seed))

    one("command line", lambda: check_command_line(argv))
    for mode in modes:
        for action in CHECKS[mode]:
            if limit := LIMITS.get((system["name"], action.__name__)):
                print(f"{system['name']:14} {mode + ': ' + action.__name__:32} left out: {limit}")
                continue
            one(f"{mode}: {action.__name__}", lambda m=mode, a=action: in_server(m, a))
        if system.get("threads") and mode != "broadcast":
            one(f"{mode}: 2 threads", lambda m=mode: check_threads(argv, m))
    if "echo" in modes:
        one("echo: IPv6", lambda: in_server("echo", echo_half_close, host="::1"))
    return passed, failed


def systems(arguments):
    if arguments.program:
        program, *options = shlex.split(arguments.program)
        name, program = os.path.basename(program), os.path.abspath(program)
        modes = (arguments.modes or "echo,udp,http,broadcast").split(",")
        return [{"name": name, "program": [program, *options], "modes": modes}]
    with open(os.path.join(HERE, "peers.json"), encoding="utf-8") as file:
        listed = json.load(file)
    unknown = set(arguments.names) - {system["name"] for system in listed}
    if unknown:
        sys.exit(f"not in peers.json: {', '.join(sorted(unknown))}")
    # The servers of the distribution are not called as the others are; the scoreboard checks them.
    ours = [s for s in listed if "launch" not in s]
    return [s for s in ours if not arguments.names or s["name"] in arguments.names]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="systems of peers.json; none: all")
    parser.add_argument("--mode", choices=CHECKS, help="only this mode")
    parser.add_argument("--program", help="check this program instead, options after it")
    parser.add_argument("--modes", help="its modes, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    passed = failed = skipped = 0
    for system in systems(arguments):
        if not os.path.exists(os.path.join(HERE, system["program"][0])):
            print(f"{system['name']:14} is not built: {' '.join(system['build'])}")
            skipped += 1
            continue
        modes = [m for m in system["modes"] if arguments.mode in (None, m)]
        right, wrong = check(system, modes, arguments.seed)
        passed += right
        failed += wrong
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
