#!/usr/bin/env python3
"""Checks what the lock file brings along. Needs nothing but Python and cargo.

    ci/dependencies.py            prints a line for each check; the exit code is 1 if one failed

For everything that is locked, tests and bench included:
- it comes from crates.io;
- its licence asks for no more than the texts in ALLOWED do (an expression with OR needs one side,
  with AND both);
- it states no newer Rust than our `rust-version`. Who states none is named, not judged.
For what a user of the library gets, on any system, with all features:
- no crate comes in two versions;
- its licence is among those of SHIPPED;
- README.md's section on dependencies names the direct ones, and counts those of a Linux server;
- docs/versions.md names those whose types are in the public API, as docs/api.txt lists it.
For the direct dependencies of each package here: its name occurs in the code that it is for.
"""

import json
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import checks
from checks import check

ROOT = pathlib.Path(__file__).resolve().parent.parent
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
# None asks for more than that its text goes along with copies.
SHIPPED = {"MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "Zlib"}
# Besides, for tests and tools: the data of Unicode's tables.
ALLOWED = SHIPPED | {"Unicode-3.0"}
LINUX = "x86_64-unknown-linux-gnu"

def metadata(*arguments):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", *arguments]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if output.returncode != 0:
        sys.exit("error: cargo metadata failed")
    return json.loads(output.stdout)


# ---- licences -------------------------------------------------------------------------------


def permits(expression, allowed):
    """Whether an SPDX expression can be kept with the licences of `allowed`. The old `/` means OR."""
    words = re.findall(r"[()]|[^\s()]+", (expression or "").replace("/", " OR "))
    try:
        result, rest = either(words, allowed)
    except IndexError:
        return False
    return result and not rest


def either(words, allowed):
    result, words = both(words, allowed)
    while words[:1] == ["OR"]:
        other, words = both(words[1:], allowed)
        result = result or other
    return result, words


def both(words, allowed):
    result, words = single(words, allowed)
    while words[:1] == ["AND"]:
        other, words = single(words[1:], allowed)
        result = result and other
    return result, words


def single(words, allowed):
    if words[0] == "(":
        result, words = either(words[1:], allowed)
        if words[0] != ")":
            raise IndexError("a bracket that does not close")
        return result, words[1:]
    licence, words = words[0], words[1:]
    if words[:1] == ["WITH"]:  # an exception only takes demands away
        words = words[2:]
    return licence in allowed, words


# ---- versions -------------------------------------------------------------------------------


def numbers(version):
    parts = [int(part) for part in version.split(".")]
    return parts + [0] * (3 - len(parts))


def label(package):
    return f"{package['name']} {package['version']}"


def check_all(packages, rust_version):
    foreign = [package for package in packages if package["id"] not in members]
    check(
        f"all of {len(foreign)} crates come from crates.io",
        [label(package) for package in foreign if package["source"] != REGISTRY],
    )
    check(
        "their licences are allowed",
        [
            f"{label(package)}: {package['license']}"
            for package in packages
            if not permits(package["license"], ALLOWED)
        ],
    )
    newer, silent = [], []
    for package in packages:
        stated = package["rust_version"]
        if not stated:
            silent.append(package["name"])
        elif numbers(stated) > numbers(rust_version):
            newer.append(f"{label(package)} needs Rust {stated}")
    check(f"none needs a newer Rust than {rust_version}", newer)
    print(f"      not stated by: {', '.join(sorted(set(silent)))}")


# ---- what a user gets -----------------------------------------------------------------------


def tree(*arguments):
    """The crates that the library is built from: names with versions, without itself. By cargo's tree,
    since the features in its metadata are those of development dependencies too."""
    command = ["cargo", "tree", "--locked", "--package", "tightloop", "--edges", "normal,build"]
    command += ["--prefix", "none", "--format", "{p}", *arguments]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if output.returncode != 0:
        sys.exit("error: cargo tree failed")
    found = {tuple(line.split()[:2]) for line in output.stdout.splitlines() if line}
    return {(name, version.lstrip("v")) for name, version in found if name != "tightloop"}


def check_shipped():
    shipped = tree("--all-features", "--target", "all")
    names = [name for name, _ in shipped]
    check(
        f"a user gets at most {len(shipped)} crates, each in one version",
        sorted(f"{name} {version}" for name, version in shipped if names.count(name) > 1),
    )
    packages = {(one["name"], one["version"]): one for one in everything["packages"]}
    licences = {one: packages[one]["license"] for one in shipped}
    check(
        "with licences that suit a library",
        sorted(
            f"{' '.join(one)}: {licence}"
            for one, licence in licences.items()
            if not permits(licence, SHIPPED)
        ),
    )


def check_readme(library):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Dependencies\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not section:
        check("README.md has a section on dependencies", ["## Dependencies is missing"])
        return
    named = set(re.findall(r"^\| `([^`]+)` \|", section[1], re.M))
    direct = {one["name"] for one in library["dependencies"] if one["kind"] is None}
    wrong = [f"{name} is not named" for name in sorted(direct - named)]
    wrong += [f"{name} is none" for name in sorted(named - direct)]
    counted = re.search(r"(\d+) crates on Linux, (\d+) without the feature `io-uring`", section[1])
    linux = ["--target", LINUX]
    true = len(tree(*linux)), len(tree(*linux, "--no-default-features"))
    if not counted or tuple(map(int, counted.groups())) != true:
        wrong.append("it has to say: {} crates on Linux, {} without the feature `io-uring`".format(*true))
    check("README.md names the dependencies", wrong)


def check_public():
    listing = (ROOT / "docs" / "api.txt").read_text(encoding="utf-8")
    heads = set(re.findall(r"(?<![\w:])([a-z]\w*)::\w", listing))
    public = {head.replace("_", "-") for head in heads - {"alloc", "core", "std", "tightloop"}}
    text = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([^`]+)` \|", text, re.M))
    wrong = [f"{name} is not named" for name in sorted(public - named)]
    wrong += [f"{name} is not in the API" for name in sorted(named - public)]
    check("docs/versions.md names the crates in the public API", wrong)


# ---- unused ---------------------------------------------------------------------------------


def code(paths):
    """The text of Rust files without the lines that are comments: a link in one is no use."""
    for path in paths:
        if "target" not in path.relative_to(ROOT).parts:
            for line in path.read_text(encoding="utf-8").splitlines():
                if not line.lstrip().startswith("//"):
                    yield line


def check_used(package):
    directory = pathlib.Path(package["manifest_path"]).parent
    own = "\n".join(code((directory / "src").rglob("*.rs")))
    others = [directory / name for name in ("tests", "examples", "benches")]
    tests = own + "\n".join(code(path for other in others for path in other.rglob("*.rs")))
    unused = []
    for dependency in package["dependencies"]:
        name = (dependency["rename"] or dependency["name"]).replace("-", "_")
        # A path, or an import of the crate itself.
        use = rf"\b{name}::|\buse {name}\b"
        if not re.search(use, tests if dependency["kind"] == "dev" else own):
            unused.append(f"{dependency['name']} ({dependency['kind'] or 'normal'})")
    check(f"{package['name']} uses each of its dependencies", unused)


if len(sys.argv) > 1:
    sys.exit(__doc__)
everything = metadata("--all-features")
members = set(everything["workspace_members"])
ours = {package["name"]: package for package in everything["packages"] if package["id"] in members}
check_all(everything["packages"], ours["tightloop"]["rust_version"])
check_shipped()
check_readme(ours["tightloop"])
check_public()
for package in ours.values():
    check_used(package)
sys.exit(checks.exit_code())
