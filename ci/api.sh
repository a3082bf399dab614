#!/usr/bin/env bash
# Compares the library's public API, with all features, with the listing in docs/api.txt: what is
# public changes in a commit that says so, or not at all.
#
#   ci/api.sh            shows the differences, and fails where there are some
#   ci/api.sh --bless    writes the listing anew
#
# The listing is that of Linux: what other systems lack is an error at run time, not a missing item.
set -euo pipefail
cd "$(dirname "$0")/.."

listing=docs/api.txt
case "${1:-}" in
"" | --bless) ;;
*)
    echo "usage: ci/api.sh [--bless]" >&2
    exit 2
    ;;
esac

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
target=${CARGO_TARGET_DIR:-target}
RUSTDOC=ci/unstable_rustdoc.sh cargo rustdoc --quiet --locked --lib --all-features \
    --target-dir "$target" -- -Z unstable-options --output-format json

CARGO_TARGET_DIR="$target/api" cargo run --quiet --locked --manifest-path ci/api/Cargo.toml -- \
    "$target/doc/tightloop.json" >"$temporary/api.txt"

if [ "${1:-}" = --bless ]; then
    cp "$temporary/api.txt" "$listing"
elif ! diff -u --label "$listing" --label "the sources" "$listing" "$temporary/api.txt"; then
    echo "The public API is not what $listing says. Where that is meant: ci/api.sh --bless," >&2
    echo "and a line in CHANGELOG.md. A line with - breaks users: docs/versions.md." >&2
    exit 1
else
    echo "the public API is that of $listing: $(wc -l <"$listing") lines"
fi
