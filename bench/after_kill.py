#!/usr/bin/env python3
"""How long the address of a server that was killed stays in use, on each driver.

    cargo build --example echo && bench/after_kill.py [ROUNDS]

Starts the example echo, speaks to it, kills it (SIGKILL), waits until the process is gone, and binds its port until that
is allowed. Prints milliseconds, and how many attempts were refused.
"""

import os
import socket
import subprocess
import sys
import time

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 6
ECHO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "target", "debug", "examples", "echo")


def bind(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            return False
    return True


def measure(driver, port):
    command = [ECHO, "--listen", f"tcp://127.0.0.1:{port}", "--driver", driver]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline(), "it does not listen"
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            server.kill()
            server.wait()
            gone, refused = time.monotonic(), 0
            while not bind(port):
                refused += 1
                time.sleep(0.0005)
            return (time.monotonic() - gone) * 1e3, refused
    finally:
        server.kill()
        server.wait()


for turn in range(ROUNDS):
    for place, driver in enumerate(("poll", "io-uring")):
        waited, refused = measure(driver, 7800 + 2 * turn + place)
        print(f"{driver:9} free after {waited:5.1f} ms, {refused} refused", flush=True)
