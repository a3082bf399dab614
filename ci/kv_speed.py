#!/usr/bin/env python3
"""Server CPU an operation of the example kv, on both drivers, against redis-server in the same run.

    cargo build --release --example kv && ci/kv_speed.py [--rounds N] [--work NAME ...]

redis-benchmark is the client, 50 connections, one thread; each server has one, pinned to the first
core, the client to the last. In each round every server does each work once, in turns forwards and
backwards. Their CPU time is that of all their threads, from schedstat, so it does not matter who
else has the machine; a ratio is that of two servers in one round, and told are the middle of the
rounds, the least and the greatest. `redis again` is a second redis-server, the control: where its
ratio is far from 1, so is the truth from the others.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The command, the commands in a pipeline, the operations of a round.
WORKS = {
    "GET": ("get", 1, 60_000),
    "SET": ("set", 1, 60_000),
    "GET -P 16": ("get", 16, 500_000),
    "SET -P 16": ("set", 16, 500_000),
}
WANTED = {"GET": 0.65, "SET": 0.65, "GET -P 16": 0.35, "SET -P 16": 0.40}
CORES = sorted(os.sched_getaffinity(0))
DEADLINE = 120  # seconds


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        pin = lambda: os.sched_setaffinity(0, {CORES[0]})
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=pin)
        end = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.process.kill()
                    sys.exit(f"{name} does not listen")
                time.sleep(0.02)

    def nanoseconds(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def measure(self, work, keys, size, scale):
        """Nanoseconds of CPU an operation."""
        command, pipeline, operations = WORKS[work]
        operations = max(1000, int(operations * scale))
        client = ["redis-benchmark", "-p", str(self.port), "-c", "50", "-P", str(pipeline), "-n"]
        client += [str(operations), "-t", command, "-d", str(size), "-q"]
        client += ["-r", str(keys)] if keys else []
        pin = lambda: os.sched_setaffinity(0, {CORES[-1]})
        before = self.nanoseconds()
        subprocess.run(client, stdout=subprocess.DEVNULL, check=True, timeout=DEADLINE, preexec_fn=pin)
        return (self.nanoseconds() - before) / operations

    def end(self):
        self.process.kill()
        self.process.wait()


def start(kv):
    servers = []
    try:
        for name in "redis", "redis again":
            port = free_port()
            command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
            servers.append(Server(name, [*command, "--appendonly", "no"], port))
        for driver in "poll", "io-uring":
            port = free_port()
            command = [kv, "--listen", f"tcp://127.0.0.1:{port}", "--loops", "1"]
            servers.append(Server(f"kv {driver}", [*command, "--driver", driver], port))
    except BaseException:
        for server in servers:
            server.end()
        raise
    return servers


def report(works, rounds):
    names = list(rounds[0][works[0]])
    print(f"\n| work | {' | '.join(f'{name}, ns' for name in names)} | wanted |")
    print(f"|---|{'---|' * (len(names) + 1)}")
    for work in works:
        cells = []
        for name in names:
            middle = statistics.median(r[work][name] for r in rounds)
            ratios = sorted(r[work][name] / r[work]["redis"] for r in rounds)
            spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
            cells.append(f"{middle:,.0f}" + (f"; {spread}" if name != "redis" else ""))
        print(f"| {work} | {' | '.join(cells)} | {WANTED[work]} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kv", default=str(ROOT / "target/release/examples/kv"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", action="append", choices=WORKS, help="only this; may be repeated")
    parser.add_argument("--keys", type=int, default=100_000, help="random keys; 0: always the same")
    parser.add_argument("--size", type=int, default=3, help="bytes of a value")
    parser.add_argument("--scale", type=float, default=1.0, help="longer or shorter rounds")
    options = parser.parse_args()
    if not (shutil.which("redis-server") and shutil.which("redis-benchmark")):
        sys.exit("needs redis-server and redis-benchmark")
    version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
    print(version.split(" sha")[0], "|", os.uname().release, "|", len(CORES), "cores", flush=True)
    works = options.work or list(WORKS)
    # Ended early, it tells what it has measured so far.
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.default_int_handler)
    servers, rounds = start(options.kv), []
    try:
        for server in servers:  # fill the tables, so that GET finds what it asks for
            WORKS["fill"] = ("set", 16, max(2 * options.keys, 50_000))
            server.measure("fill", options.keys, options.size, 1)
        for number in range(options.rounds):
            figures = {}
            for work in works:
                order = servers if number % 2 == 0 else servers[::-1]
                figures[work] = {
                    s.name: s.measure(work, options.keys, options.size, options.scale) for s in order
                }
            rounds.append({w: {s.name: figures[w][s.name] for s in servers} for w in works})
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("ended early", file=sys.stderr)
    finally:
        for server in servers:
            server.end()
    if rounds:
        report(works, rounds)


if __name__ == "__main__":
    main()
