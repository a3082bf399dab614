#!/usr/bin/env bash
# Compiles the library, its tests and its examples by the oldest Rust that Cargo.toml promises. Where
# that one is not installed, rustup is asked for it; where it cannot be had, that is said, and no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -gt 0 ]; then
    echo "usage: ci/oldest_rust.sh" >&2
    exit 2
fi
oldest=$(cargo metadata --no-deps --locked --format-version 1 | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
print(next(one["rust_version"] for one in packages if one["name"] == "tightloop"))')
# A version of rustup has three numbers.
case "$oldest" in *.*.*) ;; *) oldest=$oldest.0 ;; esac

has() { rustc "+$oldest" --version >/dev/null 2>&1; }
if ! has && command -v rustup >/dev/null; then
    timeout 300 rustup toolchain install "$oldest" --profile minimal >/dev/null 2>&1 || true
fi
if ! has; then
    echo "skip: Rust $oldest cannot be had here, so nothing was compiled by it"
    exit 0
fi
# Of its own, since each compiler would throw the other's work away.
target=${CARGO_TARGET_DIR:-target}/oldest
for features in --no-default-features --all-features; do
    targets=--all-targets
    [ "$features" = --all-features ] || targets=--lib
    cargo "+$oldest" check --quiet --locked "$features" "$targets" --target-dir "$target"
done
echo "ok    $(rustc "+$oldest" --version) compiles the library, its tests and its examples"
