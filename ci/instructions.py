#!/usr/bin/env python3
"""Counts the instructions of each case of benches/micro.rs, and compares them with the baseline.

    ci/instructions.py              a table; fails where a turn of the loop got dearer by 10 %
    ci/instructions.py --bless      the same, and makes these counts the baseline
    ci/instructions.py --only turn  only the cases whose names have this in them

Each case runs twice under `valgrind --tool=cachegrind`, for so many operations and for twice as
many: the difference is free of what the program does first. Counts do not depend on what else the
machine does. They do depend on the compiler and, where bytes are copied or searched, on the
processor: glibc picks its memcpy, and memchr its search, by what the processor has. For the first,
the features that pick among glibc's are taken away (GLIBC_TUNABLES), so that it is everywhere the
one that any x86-64 has; the second shows in the cases `line` and `delimiter` only, which take AVX2
where there is one. Only turns of the loop, which search nothing, can fail.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "benches" / "instructions.json"
# Divided by the numbers of connections in the cases of turns, so that both runs have whole turns.
TIMES = 4000
GUARDED = "loop turn"
MOST = 0.10
NOTED = 0.03
TUNABLES = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM"


def build():
    command = ["cargo", "bench", "--locked", "--features", "sim", "--bench", "micro", "--no-run"]
    # Only for the place of the program; what the compiler says goes to standard error.
    command.append("--message-format=json-render-diagnostics")
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if output.returncode != 0:
        sys.exit("the benchmark does not build")
    for line in output.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "micro" and message.get("executable"):
            return message["executable"]
    sys.exit("cargo names no program for the benchmark")


def instructions(program, case, times):
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [program, "--case", case, "--times", str(times)]
    environment = {**os.environ, "GLIBC_TUNABLES": TUNABLES}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    counted = re.search(r"I\s+refs:\s+([\d,]+)", run.stderr)
    if run.returncode != 0 or not counted:
        sys.exit(f"{case}: valgrind counts nothing:\n{run.stderr}")
    return int(counted.group(1).replace(",", ""))


def main():
    parser = argparse.ArgumentParser(usage="%(prog)s [--bless] [--only TEXT]")
    parser.add_argument("--bless", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    program = build()
    cases = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    cases = [case for case in cases.stdout.splitlines() if options.only in case]
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    counts, dearer = {}, []
    print(f"{'':<54}{'now':>9}{'baseline':>10}")
    for case in cases:
        less, more = (instructions(program, case, times) for times in (TIMES, 2 * TIMES))
        counts[case] = round((more - less) / TIMES, 1)
        before = baseline.get(case)
        change = counts[case] / before - 1 if before else 0
        note = f"{change:+8.1%}" if abs(change) > NOTED else ""
        print(f"{case:<54}{counts[case]:>9.1f}{before or '-':>10}{note}", flush=True)
        if case.startswith(GUARDED) and not options.bless and (not before or change > MOST):
            dearer.append(case)
    if options.bless:
        BASELINE.write_text(json.dumps({**baseline, **counts}, indent=4) + "\n")
    if dearer:
        print(f"\nmore than {MOST:.0%} dearer, or without a baseline: {'; '.join(dearer)}")
        sys.exit("if it has to be so, say why in the commit that has the new baseline (--bless)")


if __name__ == "__main__":
    main()
