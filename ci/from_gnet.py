#!/usr/bin/env python3
"""Checks that docs/from-gnet.md is whole and true:

- its tables name every item of ci/gnet_items.txt, once, and nothing else;
- what they, and the text, name of tightloop is in src/, and found there by gnet's name too (an alias);
- its parts in Rust are examples/from_gnet_push.rs, which ci/examples.py runs.

    ci/from_gnet.py [--go]

With --go also what needs Go: the list of items is made anew out of the gnet that bench/peers/gnet
pins, and compared; the parts in Go are built against it.
"""

import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE, ITEMS, EXAMPLE = "docs/from-gnet.md", "ci/gnet_items.txt", "examples/from_gnet_push.rs"
LISTER, PEER = "ci/gnet_items.go", "bench/peers/gnet"
# Not tightloop's own, but its counterparts all the same.
FOREIGN = ("log", "FnOnce")
# Of the standard library and other crates, in the text.
FOREIGN_NAMES = "ZERO env_logger max_level set_boxed_logger set_max_level to_vec try_clone".split()

wrong = []


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def rows(page):
    """The rows of the tables whose head is `gnet`, `tightloop`, `difference`."""
    table = False
    for number, line in enumerate(page.splitlines(), 1):
        if not line.startswith("|"):
            table = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells == ["gnet", "tightloop", "difference"]:
            table = True
        elif table and not set(line) <= set("|-"):
            yield number, cells


def check_items(page):
    seen = {}
    for number, cells in rows(page):
        if len(cells) != 3:
            wrong.append(f"{PAGE}:{number}: {len(cells)} cells, not 3")
            continue
        for item in re.findall(r"`([^`]+)`", cells[0]):
            if item in seen:
                wrong.append(f"{PAGE}:{number}: {item} has a row already, line {seen[item]}")
            seen[item] = number
    items = read(ITEMS).split()
    wrong.extend(f"{PAGE}: no row for {item}" for item in items if item not in seen)
    extra = set(seen) - set(items)
    wrong.extend(f"{PAGE}:{seen[item]}: gnet has no {item}" for item in sorted(extra))
    return len(items)


def source():
    parts = []
    for directory, _, files in os.walk(os.path.join(ROOT, "src")):
        parts += [read(os.path.join(directory, name)) for name in files if name.endswith(".rs")]
    return "\n".join(parts)


def check_counterparts(page):
    """`Type::name` in the second column: a public type, and a function, variant or field."""
    text = source()
    for number, cells in rows(page):
        if cells[1].startswith("none, because "):
            continue
        code = re.findall(r"`([^`]+)`", cells[1])
        if not code:
            wrong.append(f"{PAGE}:{number}: neither a counterpart nor `none, because`")
        for name in code:
            if name.startswith(FOREIGN):
                continue
            kind, _, member = name.partition("::")
            if not re.search(rf"pub (?:struct|enum|trait|type) {kind}\b", text):
                wrong.append(f"{PAGE}:{number}: no public type {kind}")
            variants = rf"fn {member}\b|^\s+(?:pub )?{member}\b(?:,|:|\(| \{{|;)|type {member}\b"
            if member and not re.search(variants, text, re.MULTILINE):
                wrong.append(f"{PAGE}:{number}: no {name}")


def check_text(page):
    """Names of tightloop in the text: `Type::name`, `conn.name`, `name_of_words`."""
    text = source()
    name = r"\b[A-Z]\w*::(\w+)|\b(?:conn|cx|input|server|client|peer|datagram)\.(\w+)"
    name += r"|(?<![\w.:/])([a-z]+(?:_[a-z]+)+)\b(?!\.py)"
    is_code = False
    for number, line in enumerate(page.splitlines(), 1):
        is_code ^= line.startswith("```")
        cells = re.split(r"(?<!\\)\|", line)
        spans = re.findall(r"`([^`]+)`", "|".join(cells[2:]) if len(cells) > 2 else line)
        for groups in [] if is_code else re.findall(name, " ".join(spans)):
            word = "".join(groups)
            found = re.search(rf"fn {word}\b|^\s+(?:pub )?{word}\b[,:( {{;]", text, re.MULTILINE)
            if not found and word not in FOREIGN_NAMES:
                wrong.append(f"{PAGE}:{number}: there is no {word}")


def check_aliases(page):
    """Functions and methods of gnet, by the names that people search the documentation for."""
    names = re.findall(r'doc\(alias = "(\w+)"\)|\bfn (\w+)', source())
    known = {name.lower() for pair in names for name in pair}
    for number, cells in rows(page):
        if cells[1].startswith("none, because ") or "`log" in cells[1]:
            continue
        called = []
        for item in re.findall(r"`([^`]+)`", cells[0]):
            owner, _, name = item.rpartition(".")
            is_method = owner in ("EventHandler", "Reader", "Writer", "Socket", "Conn", "EventLoop")
            is_method |= owner in ("Engine", "Client")
            is_function = not owner and item.startswith(("With", "New", "Run", "Rotate", "Stop"))
            if is_method or is_function:
                called.append(name.lower())
        if called and not known.intersection(called):
            wrong.append(f"{PAGE}:{number}: none of {called} is an alias in the documentation")


def blocks(page, language):
    section = page.split("\n## Two programs side by side\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def check_program(page):
    shown = "\n".join(blocks(page, "rust,ignore"))
    if shown != read(EXAMPLE):
        first = zip(shown.splitlines(), read(EXAMPLE).splitlines())
        at = next((a for a, b in first if a != b), "the end")
        wrong.append(f"{PAGE}: the parts in Rust are not {EXAMPLE}, from {at!r} on")


def run(command, directory):
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {done.stderr}")
    return done.stdout


def check_go(page):
    peer = os.path.join(ROOT, PEER)
    run(["go", "mod", "download"], peer)
    gnet = run(["go", "list", "-m", "-f", "{{.Dir}}", "github.com/panjf2000/gnet/v2"], peer).strip()
    if run(["go", "run", os.path.join(ROOT, LISTER), gnet], peer) != read(ITEMS):
        wrong.append(f"{ITEMS}: not what {LISTER} finds in {os.path.basename(gnet)}")
    with tempfile.TemporaryDirectory() as directory:
        for name in "go.mod", "go.sum":
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(read(f"{PEER}/{name}"))
        program = os.path.join(directory, "main.go")
        with open(program, "w", encoding="utf-8") as file:
            file.write("\n".join(blocks(page, "go")))
        if run(["gofmt", "-l", program], directory):
            wrong.append(f"{PAGE}: the parts in Go are not as gofmt has them")
        run(["go", "vet", "."], directory)
        run(["go", "build", "-o", "push", "."], directory)


def main():
    if sys.argv[1:] not in ([], ["--go"]):
        sys.exit(__doc__)
    page = read(PAGE)
    count = check_items(page)
    check_counterparts(page)
    check_text(page)
    check_aliases(page)
    check_program(page)
    if sys.argv[1:]:
        check_go(page)
    print("\n".join(wrong) or f"{count} items of gnet, each with its row")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
