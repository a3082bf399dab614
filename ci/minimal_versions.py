#!/usr/bin/env python3
"""Builds the library with the oldest versions that Cargo.toml says it needs.

    ci/minimal_versions.py

Whoever has an older lock file gets those: a version too low is a build that fails at their place, not
here. Each direct dependency is brought down to the least that its requirement allows; what they need in
turn stays as locked, unless it has to move. Works on a copy in target/minimal that has no tests and so no
dependencies for them. Needs nothing but Python and cargo.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
COPY = ROOT / "target" / "minimal"


def library():
    command = ["cargo", "metadata", "--no-deps", "--locked", "--format-version", "1"]
    packages = json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]
    return next(package for package in packages if package["name"] == "tightloop")


def least(requirement):
    """The oldest version of `^1`, `^1.2` or `^1.2.3`, which is what Cargo.toml uses."""
    match = re.fullmatch(r"\^(\d+(?:\.\d+){0,2})", requirement)
    if not match:
        sys.exit(f"error: no rule for the requirement {requirement}")
    parts = match[1].split(".")
    return ".".join(parts + ["0"] * (3 - len(parts)))


def copy():
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    shutil.copytree(ROOT / "src", COPY / "src")
    shutil.copy(ROOT / "Cargo.lock", COPY)
    kept = re.compile(r"\[(package|features|lints\.\w+|(target\.'.*'\.)?dependencies)\]\n")
    text = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    sections = re.split(r"^(?=\[)", text, flags=re.M)
    # Readme and the list of what is packed name files that are not here.
    manifest = "".join(section for section in sections if kept.match(section))
    manifest = re.sub(r"^readme = .*\n|^include = \[\n(?:.*\n)*?\]\n", "", manifest, flags=re.M)
    (COPY / "Cargo.toml").write_text(manifest + "\n[workspace]\n", encoding="utf-8")


def lower(versions):
    """Brings the lock file down. One can keep another up, so as long as something moves it is tried again."""
    left, errors = dict(versions), {}
    moved = True
    while left and moved:
        moved = False
        for name, version in list(left.items()):
            command = ["cargo", "update", "--quiet", "--package", name, "--precise", version]
            done = subprocess.run(command, cwd=COPY, stderr=subprocess.PIPE, text=True)
            if done.returncode == 0:
                del left[name]
                moved = True
            else:
                errors[name] = done.stderr
    for name in left:
        print(f"FAIL  {name} {left[name]} cannot be had: state what is needed\n{errors[name]}")
    return not left


def main():
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    normal = [one for one in library()["dependencies"] if one["kind"] is None]
    versions = {one["name"]: least(one["req"]) for one in normal}
    copy()
    if not lower(versions):
        sys.exit(1)
    command = ["cargo", "check", "--quiet", "--lib", "--all-features", "--target-dir", str(TARGET)]
    if subprocess.run(command, cwd=COPY).returncode != 0:
        sys.exit("FAIL  the library needs more than Cargo.toml says")
    print("ok    it builds with " + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)))


main()
