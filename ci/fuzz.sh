#!/bin/sh
# Fuzzes each target for so many seconds (default 30), starting from the committed corpus, which is
# not changed. Needs cargo-fuzz; RUSTC_BOOTSTRAP lets a stable compiler instrument the code.
set -eu
seconds=${1:-30}
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1
cargo fuzz build
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for corpus in fuzz/corpus/*; do
    target=$(basename "$corpus")
    mkdir "$found/$target"
    echo "== $target"
    cargo fuzz run "$target" "$found/$target" "$corpus" -- \
        -max_total_time="$seconds" -max_len=1024 -verbosity=0
done
