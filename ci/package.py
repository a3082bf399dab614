#!/usr/bin/env python3
"""Packs the library as for crates.io, and looks at what is in it.

    ci/package.py           prints a line for each check; the exit code is 1 if one failed

The package holds what a user needs and nothing else: sources, the examples, the texts. It builds by
itself, as cargo's own verification shows, and its examples do, which the README has one try; no path
in it leads out of it. What the Markdown in it links to is packed too, or belongs to what only the
repository has (OUTSIDE). Needs nothing but Python and cargo.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

sys.dont_write_bytecode = True
import checks
from checks import check

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOST_BYTES = 700_000  # compressed; crates.io takes ten times that
ALLOWED = [
    r"(src|examples)/.*\.rs",
    r"docs/(.*/)?[a-zA-Z0-9-]+\.md",
    r"(README|CHANGELOG|SECURITY|CONTRIBUTING)\.md",
    r"LICENSE-(APACHE|MIT)",
    # By cargo itself.
    r"Cargo\.(toml|toml\.orig|lock)|\.cargo_vcs_info\.json",
]
NEEDED = "src/lib.rs README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT".split()
# Measured data and tools, and files for people who work on the library.
OUTSIDE = r"(docs/performance|bench|benches|ci|tests|fuzz|\.github)/.*|docs/api\.txt"

def cargo(*arguments, **options):
    return subprocess.run(["cargo", *arguments], **options).returncode == 0


def pack():
    """Packs, and has cargo unpack and build that; gives the package and the target directory."""
    listing = ["metadata", "--no-deps", "--locked", "--format-version", "1"]
    about = json.loads(subprocess.check_output(["cargo", *listing], cwd=ROOT))
    version = next(one["version"] for one in about["packages"] if one["name"] == "tightloop")
    built = cargo("package", "--quiet", "--locked", "--allow-dirty", cwd=ROOT)
    check("cargo packs the library and builds the package", [] if built else ["see above"])
    path = pathlib.Path(about["target_directory"]) / "package" / f"tightloop-{version}.crate"
    if not built or not path.exists():
        sys.exit(1)
    return path, about["target_directory"]


def packed_sizes(path):
    """The files' sizes by name."""
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2]: member.size for member in archive}


def check_contents(path, sizes):
    strangers = [name for name in sizes if not any(re.fullmatch(one, name) for one in ALLOWED)]
    check(f"nothing but what a user needs: {len(sizes)} files", sorted(strangers))
    check("and all of that", [name for name in NEEDED if name not in sizes])
    packed = path.stat().st_size
    largest = sorted(sizes, key=sizes.get, reverse=True)[:5]
    check(
        f"it is small: {packed // 1000} kB of at most {MOST_BYTES // 1000}, unpacked {sum(sizes.values()) // 1000}",
        [f"{name}: {sizes[name]} bytes" for name in largest] if packed > MOST_BYTES else [],
    )


def check_links(root, sizes):
    dangling = []
    for name in sorted(sizes):
        if name.endswith(".md"):
            text = (root / name).read_text(encoding="utf-8")
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if "://" in link or link.startswith("#"):
                    continue
                target = os.path.normpath(os.path.join(os.path.dirname(name), link.split("#")[0]))
                packed = (root / target).exists()
                known = re.fullmatch(OUTSIDE, target) and (ROOT / target).exists()
                if not packed and not known:
                    dangling.append(f"{name}: {link}")
    check("its Markdown links to what is there", dangling)


def main():
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    path, target = pack()
    root, sizes = path.with_suffix(""), packed_sizes(path)
    check_contents(path, sizes)
    check_links(root, sizes)
    command = ["check", "--quiet", "--locked", "--all-features", "--examples"]
    built = cargo(*command, "--target-dir", target, cwd=root)
    check("its examples compile", [] if built else ["see above"])
    sys.exit(checks.exit_code())


main()
