#!/usr/bin/env python3
"""Restarts the example hot_restart under load, again and again, and counts whom it fails.

    cargo build --examples && python3 ci/hot_restart.py [DIRECTORY]

As ci/examples.py, with which it shares its tools. 200 clients ask without a pause: over TCP and a Unix
socket, with connections that are kept until the server says otherwise, and with one a request. A request
fails if its connection is refused or reset, if it ends early, or if its answer is not one. Before each
restart the program's file is replaced, as an upgrade does it. The second of three restarts is tried
first with a program that does not come up. No descriptor is left over by all that. Done on each driver
that the system has, with one acceptor and with a socket a loop. HOT_RESTART_SECONDS stretches the load
between restarts (default 0.5). Then the old process is killed while the new one is on its way.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sys
import time

sys.dont_write_bytecode = True
import examples
from examples import DEADLINE, Example, check, equal

CLIENTS = 200
RESTARTS = 3
PAUSE = float(os.environ.get("HOT_RESTART_SECONDS", "0.5"))
PR_SET_CHILD_SUBREAPER = 36

KEEP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Load:
    """What the clients have seen."""

    def __init__(self, tcp, unix):
        self.tcp, self.unix = tcp, unix
        self.stopping, self.failures, self.by_process = False, [], {}
        self.served = 0

    async def connect(self, number):
        if number % 4 == 3:
            return await asyncio.open_unix_connection(self.unix)
        return await asyncio.open_connection(*self.tcp)

    async def client(self, number):
        """Asks until the end. Every second one keeps its connection."""
        keeps = number % 2 == 0
        while not self.stopping:
            try:
                reader, writer = await self.connect(number)
            except OSError as error:
                self.failures.append(f"cannot connect: {error!r}")
                continue
            try:
                while not self.stopping and await self.ask(reader, writer, keeps):
                    pass
            except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
                self.failures.append(f"client {number}: {error!r}")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def ask(self, reader, writer, keeps):
        """One request; answers whether another one may follow on this connection."""
        writer.write(KEEP if keeps else CLOSE)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
        if not head.startswith(b"HTTP/1.1 200 OK\r\n"):
            raise ValueError(head)
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        process = int(await reader.readexactly(length))
        self.served += 1
        self.by_process[process] = self.by_process.get(process, 0) + 1
        return b"Connection: close" not in head

    async def until(self, what, condition):
        """Waits for an event; at the deadline it is a failure."""
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end:
                self.failures.append(f"not within {DEADLINE} s: {what}")
                return
            await asyncio.sleep(0.01)


def has_ended(process):
    """Reaps a process that has ended; those that have started each other become our children."""
    try:
        return os.waitpid(process, os.WNOHANG)[0] == process
    except ChildProcessError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, 0)
            return False
        return True


def replace(program, source):
    """Puts another file in the place of a program that runs."""
    shutil.copy2(source, program + ".new")
    os.replace(program + ".new", program)


def descriptors(process):
    """How many it has open, but for the standard ones, and which of them its children would inherit."""
    numbers = [int(name) for name in os.listdir(f"/proc/{process}/fd") if int(name) > 2]
    inherited = []
    for number in numbers:
        # Some may be closed while we look.
        with contextlib.suppress(FileNotFoundError):
            with open(f"/proc/{process}/fdinfo/{number}", encoding="ascii") as info:
                flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags:"))
            if not flags & os.O_CLOEXEC:
                inherited.append(os.readlink(f"/proc/{process}/fd/{number}"))
    return len(numbers), inherited


async def restarts(load, program, source, first, label):
    """Replaces the server again and again; answers the last one."""
    current = first
    for number in range(RESTARTS):
        await asyncio.sleep(PAUSE)
        if number == 1:
            with open(program + ".new", "w") as file:
                file.write("#!/bin/sh\nexit 3\n")
            os.chmod(program + ".new", 0o755)
            os.replace(program + ".new", program)
            os.kill(current, signal.SIGHUP)
            await asyncio.sleep(PAUSE)
            before = load.by_process[current]
            await load.until("the old one serves on", lambda: load.by_process[current] > before)
            check(f"{label}: a program that does not come up changes nothing", not has_ended(current))
        replace(program, source)
        known = set(load.by_process)
        os.kill(current, [signal.SIGHUP, signal.SIGUSR2][number % 2])
        await load.until("a new process serves", lambda: set(load.by_process) - known)
        await load.until("the old process ends", lambda: has_ended(current))
        new = set(load.by_process) - known
        if len(new) != 1:
            break
        (current,) = new
    await asyncio.sleep(PAUSE)
    return current


async def run(driver, flags, label):
    # Absolute, so that the directory of the examples does not come in front of it.
    program = os.path.join(examples.temporary, "hot_restart")
    source = os.path.join(examples.directory, "hot_restart")
    unix = os.path.join(examples.temporary, "hot.sock")
    shutil.copy2(source, program)
    listen = ("tcp://127.0.0.1:0", f"unix://{unix}")
    with Example(program, "--driver", driver, *flags, listen=listen) as server:
        load = Load(server.address(0), unix)
        before = descriptors(server.process.pid)
        clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
        first = server.process.pid
        await load.until("everybody is served", lambda: load.served >= CLIENTS)
        last = first
        try:
            last = await restarts(load, program, source, first, label)
        finally:
            load.stopping = True
            await asyncio.gather(*clients)
            await load.until("no connection is left", lambda: descriptors(last) == before)
            left = [process for process in load.by_process if not has_ended(process)]
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            end = time.monotonic() + DEADLINE
            while not all(has_ended(process) for process in left) and time.monotonic() < end:
                time.sleep(0.01)
    equal(f"{label}: failed requests", load.failures[:5], [])
    equal(f"{label}: processes that served", len(load.by_process), RESTARTS + 1)
    equal(f"{label}: processes left before the end", left, [last])
    check(f"{label}: the last one removes the path", not os.path.exists(unix))
    print(f"      {load.served} requests, by process: {sorted(load.by_process.values())}")


def ask_once(address, kind):
    """Who answers."""
    with socket.socket(kind) as peer:
        peer.settimeout(DEADLINE)
        peer.connect(address)
        peer.sendall(CLOSE)
        answer = b"".join(iter(lambda: peer.recv(4096), b""))
    return int(answer.rpartition(b"\r\n\r\n")[2])


def killed_in_the_middle():
    """The old process dies before the new one is ready: nobody else is left to serve."""
    program = os.path.join(examples.temporary, "hot_restart")
    source = os.path.abspath(os.path.join(examples.directory, "hot_restart"))
    unix, go_on = (os.path.join(examples.temporary, name) for name in ("killed.sock", "go_on"))
    os.mkfifo(go_on)
    shutil.copy2(source, program)
    listen = ("tcp://127.0.0.1:0", f"unix://{unix}")
    with Example(program, listen=listen) as server:
        tcp, old = server.address(0), server.process.pid
        # The new one reads from a pipe before it starts.
        with open(program + ".new", "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nread line <{go_on}\nexec {source} "$@"\n')
        os.chmod(program + ".new", 0o755)
        os.replace(program + ".new", program)
        os.kill(old, signal.SIGHUP)
        with open(go_on, "w", encoding="utf-8") as pipe:
            server.process.kill()
            server.process.wait()
            pipe.write("now\n")
        new = ask_once(tcp, socket.AF_INET)
        try:
            check("hot_restart, killed in the middle: another one serves", new != old)
            equal("hot_restart, killed in the middle: on the path too", ask_once(unix, socket.AF_UNIX), new)
        finally:
            os.kill(new, signal.SIGTERM)
        # Our child, as those who have started it have gone.
        status = os.waitstatus_to_exitcode(os.waitpid(new, 0)[1])
        equal("hot_restart, killed in the middle: it serves until it is told to end", status, 0)
        check("hot_restart, killed in the middle: its path is removed", not os.path.exists(unix))


def has_io_uring():
    with contextlib.suppress(RuntimeError, OSError), Example("hot_restart", "--driver", "io-uring"):
        return True
    print("skip  hot_restart: there is no io_uring")
    return False


WAYS = [("an acceptor", ["--loops", "2"]), ("own sockets", ["--loops", "2", "--reuse-port"])]


def group(driver, name, flags):
    def restarted():
        asyncio.run(run(driver, flags, f"hot_restart, {driver}, {name}"))

    return restarted


def main():
    examples.directory = sys.argv[1] if len(sys.argv) > 1 else examples.directory
    # Whose parent has ended becomes our child, and not somebody's who never looks after it.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    drivers = ["poll", "io-uring"] if has_io_uring() else ["poll"]
    examples.GROUPS = [group(driver, *way) for driver in drivers for way in WAYS]
    examples.GROUPS.append(killed_in_the_middle)
    examples.main()


if __name__ == "__main__":
    main()
