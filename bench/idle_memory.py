#!/usr/bin/env python3
"""What idle connections cost on each driver: the server's memory, and the kernel's.

    cargo build --release -p tightloop-bench && bench/idle_memory.py [CONNECTIONS [ROUNDS]]

Each round starts the server anew, has `load --work idle` open the connections (15,000 by default; one message each),
and compares, 12 seconds behind the last one, when idle connections have been demoted, with before: VmRSS of the server, and
Slab of /proc/meminfo. Slab is the whole machine's and holds both ends of each connection, so let nothing else run; what can
be compared is the two drivers. Prints bytes a connection.
"""

import os
import signal
import socket
import subprocess
import sys
import time

CONNECTIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 15_000
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 2
SETTLES = 12  # seconds: idle connections are demoted in at most eight
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "target", "release")


def kib(path, name):
    with open(path) as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def measure(driver, port):
    address = f"127.0.0.1:{port}"
    command = [f"{PROGRAMS}/tightloop-system", "echo", address, "--driver", driver]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline() == b"ready\n"
        touch(address)
        status = f"/proc/{server.pid}/status"
        before = kib(status, "VmRSS"), kib("/proc/meminfo", "Slab")
        command = [f"{PROGRAMS}/tightloop-bench", "load", f"tcp://{address}", "--work", "idle", "-c", str(CONNECTIONS)]
        load = subprocess.Popen([*command, "-d", f"{SETTLES + 10}s", "--quiet", "--json", "/dev/null"])
        try:
            wait_for(port)
            time.sleep(SETTLES)
            after = kib(status, "VmRSS"), kib("/proc/meminfo", "Slab")
        finally:
            load.send_signal(signal.SIGINT)
            load.wait()
    finally:
        server.terminate()
        server.wait()
    return [(b - a) * 1024 / CONNECTIONS for a, b in zip(before, after)]


def touch(address):
    """A first connection, that has been in use, pays for what is allocated once."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def wait_for(port):
    """Until all connections are established: their server ends, state 01."""
    wanted, local = CONNECTIONS, f"0100007F:{port:04X}"
    while wanted > 0:
        time.sleep(0.2)
        with open("/proc/net/tcp") as lines:
            found = sum(1 for line in lines if line.split()[1] == local and line.split()[3] == "01")
        wanted = CONNECTIONS - found


for turn in range(ROUNDS):
    for place, driver in enumerate(("poll", "io-uring") if turn % 2 == 0 else ("io-uring", "poll")):
        user, kernel = measure(driver, 7400 + 2 * turn + place)
        print(f"{driver:9} user (VmRSS) {user:6.0f}   kernel (Slab) {kernel:6.0f}   bytes a connection", flush=True)
        time.sleep(3)
