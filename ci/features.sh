#!/usr/bin/env bash
# Builds the library with no features, with each alone, and with all; warnings are errors. What is public
# only with a feature must not be needed without it, and no import be left over.
#
#   ci/features.sh          the library so, and its tests, examples and documentation without any feature
set -euo pipefail
cd "$(dirname "$0")/.."

if cargo clippy --version >/dev/null 2>&1; then
    # Its flags are for what is ours: as RUSTFLAGS they would build every dependency anew.
    build() { cargo clippy --quiet --locked "$@" -- -D warnings; }
else
    build() { cargo check --quiet --locked "$@"; }
fi

features=$(cargo metadata --no-deps --locked --format-version 1 | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
print(*next(one["features"] for one in packages if one["name"] == "tightloop"))')
[ -n "$features" ]

echo "no features, tests and examples too"
build --no-default-features --lib --tests --examples
# A link to what only a feature has leads nowhere without it.
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --no-default-features --locked
for feature in $features; do
    echo "$feature alone"
    build --no-default-features --features "$feature" --lib
done
echo "all"
build --all-features --lib
