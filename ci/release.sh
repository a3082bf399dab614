#!/usr/bin/env bash
# What a release needs beside working code, in one command: .ci/run runs it on every change.
#
#   dependencies   licences, sources, versions, the stated Rust, unused ones
#   oldest Rust    it compiles by that one
#   old versions   those that Cargo.toml says suffice do
#   features       no features, each alone, all
#   public API     as docs/api.txt lists it
#   documentation  complete, with examples
#   package        what goes to crates.io, and that it builds
#
# The target directory is the usual one. Needs cargo and Python, and uses rustup.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()
for check in dependencies.py oldest_rust.sh minimal_versions.py features.sh api.sh docs.py package.py; do
    printf '\n-- %s\n' "$check"
    "ci/$check" || failed+=("$check")
done
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed[*]}" >&2
    exit 1
fi
