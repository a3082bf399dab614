#!/usr/bin/env python3
"""Checks that every public item is documented, and that what one starts from has an example.

    ci/docs.py              prints a line for each check; the exit code is 1 if one failed

The count of documented items is rustdoc's own (`--show-coverage`), with all features. Examples are
asked for of public traits, structs and functions: a fenced block in the item's own documentation.
Errors are matched or printed, as any other. EXEMPT names those that have none, with the reason. Needs nothing but Python and cargo.
"""

import json
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
import checks
from checks import check

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

RETURNED = "shown by the example of what returns it"
PRINTED = "as an error"
EXEMPT = {
    "ClientHandle": "as ServerHandle",
    "Conn": "every example of a callback has one; its methods have theirs",
    "ConnId": RETURNED,
    "DriverFallback": "told by LoopInfo, printed",
    "FrameHandler": "shown at Framed and FrameConn",
    "InputReader": RETURNED,
    "LoopInfo": "the argument of the factory; fields only",
    "PerConn": RETURNED,
    "RunningClient": "shown at Client",
    "Session": "shown at per_conn",
    "Stats": "fields only; shown at ServerHandle",
    "WorkerStats": "fields only",
    "JobPanic": PRINTED,
    "UnknownDriver": PRINTED,
    "codec::Decoded": "shown at Codec",
    "codec::DelimiterCodecBuilder": "shown at its codec",
    "codec::FramedState": "needed only around Framed",
    "codec::LengthFieldCodecBuilder": "shown at its codec",
    "codec::LineCodecBuilder": "shown at its codec",
    "codec::VarintLengthCodecBuilder": "shown at its codec",
    "proxy_protocol::SslInfo": RETURNED,
    "proxy_protocol::Tlv": "fields only",
    "proxy_protocol::Tlvs": RETURNED,
    "tls::TlsInfo": "fields only",
    "tls::certificates_from_pem_file": "one call; shown by the example programs",
    "tls::private_key_from_pem_file": "one call; shown by the example programs",
}
ASKED = {"trait", "struct", "function"}

def rustdoc(*arguments):
    command = ["cargo", "rustdoc", "--quiet", "--locked", "--lib", "--all-features"]
    command += ["--", "-Z", "unstable-options", "--output-format", "json", *arguments]
    environment = os.environ | {"RUSTDOC": str(ROOT / "ci" / "unstable_rustdoc.sh")}
    output = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if output.returncode != 0:
        sys.exit("error: rustdoc failed")
    return output.stdout


def check_coverage():
    files = json.loads(rustdoc("--show-coverage"))
    total = sum(file["total"] for file in files.values())
    check(
        f"all of {total} public items are documented",
        [
            f"{path}: {file['total'] - file['with_docs']} without"
            for path, file in sorted(files.items())
            if file["with_docs"] < file["total"]
        ],
    )


def public(index, module, path, found):
    """Adds what is public to `found`: kind and documentation by the shortest path."""
    for identity in index[module]["inner"]["module"]["items"]:
        item = index.get(str(identity))
        if item and "use" in item["inner"]:
            item = index.get(str(item["inner"]["use"]["id"]))
        if not item:  # of another crate
            continue
        name, kind = path + [item["name"]], next(iter(item["inner"]))
        known = found.get(item["id"])
        if not known or len(name) < len(known[0]):
            found[item["id"]] = name, kind, item["docs"] or ""
        if kind == "module":
            public(index, str(item["id"]), name, found)


def check_examples():
    rustdoc()
    index = json.loads((TARGET / "doc" / "tightloop.json").read_text(encoding="utf-8"))
    found = {}
    public(index["index"], str(index["root"]), [], found)
    asked = {"::".join(name): docs for name, kind, docs in found.values() if kind in ASKED}
    asked = {name: docs for name, docs in asked.items() if not name.endswith("Error")}
    without = {name for name, docs in asked.items() if "```" not in docs}
    check(
        f"{len(asked) - len(without)} of {len(asked)} types, traits and functions have an example",
        [f"{name} has none" for name in sorted(without - EXEMPT.keys())],
    )
    check("the others have a reason", [f"{name} needs none" for name in sorted(EXEMPT.keys() - without)])


if len(sys.argv) > 1:
    sys.exit(__doc__)
check_coverage()
check_examples()
sys.exit(checks.exit_code())
