#!/usr/bin/env bash
# Runs the whole suite under AddressSanitizer and ThreadSanitizer, one after the other, with the
# standard library instrumented too; or examples under AddressSanitizer, spoken to by all of their clients:
#
#     ci/sanitize.sh [address|thread ...] [-- ARGUMENTS OF cargo test, else --lib --tests]
#     ci/sanitize.sh examples [http|kv|proxy ...]
#
# With arguments of cargo test, only that is run.
#
# The examples need no more than the toolchain that is there; its standard library is not instrumented.
# The suite needs a rustc with its source and a clang of the same LLVM: on Debian it installs them. (The
# toolchains of rustup bring a runtime for AddressSanitizer only, and ThreadSanitizer without an
# instrumented standard library tells of races that are none.) RUSTC_BOOTSTRAP lets a stable
# compiler take the flags; the crate itself uses nothing unstable.
set -euo pipefail
cd "$(dirname "$0")/.."

# Any report is a failure, and so is a leak at a server's orderly end.
if [ "${1:-}" = examples ]; then
    shift
    [ $# -gt 0 ] || set -- http kv proxy
    target=$(uname -m)-unknown-linux-gnu
    directory=${CARGO_TARGET_DIR:-target}/sanitize-examples
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$directory \
        cargo build --locked --all-features --target "$target" --examples
    export ASAN_OPTIONS=detect_leaks=1:exitcode=66 EXAMPLE_SANITIZED=1
    for example in "$@"; do
        case $example in
        http) script=ci/http_clients.py ;;
        kv | proxy) script=ci/$example.py ;;
        *) echo "error: no clients are known of the example $example" >&2 && exit 2 ;;
        esac
        printf '\n== %s\n' "$example"
        python3 "$script" "$directory/$target/debug/examples"
    done
    exit
fi

sanitizers=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    sanitizers+=("$1")
    shift
done
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- --lib --tests
[ ${#sanitizers[@]} -gt 0 ] || sanitizers=(address thread)

if [ -x /usr/bin/apt-get ] && ! { [ -d /usr/lib/rustlib/src/rust ] && command -v clang-22 >/dev/null; }; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends \
        rustc-web cargo-web rust-web-src clang-22 libclang-rt-22-dev llvm
fi

target=$(uname -m)-unknown-linux-gnu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin RUSTC_BOOTSTRAP=1
export CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
# A sanitized build is large; lines are all that a report needs.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_INCREMENTAL=0
# Any report is a failure.
export ASAN_OPTIONS=detect_leaks=1:exitcode=66 TSAN_OPTIONS=exitcode=66:second_deadlock_stack=1
export LSAN_OPTIONS=suppressions=$PWD/ci/lsan.supp:print_suppressions=0
symbolizer=$(command -v llvm-symbolizer || true)
export ASAN_SYMBOLIZER_PATH=$symbolizer
TSAN_OPTIONS=$TSAN_OPTIONS:external_symbolizer_path=$symbolizer
# Unoptimized and instrumented code needs more stack than a test's thread has.
export RUST_MIN_STACK=$((32 << 20))
# Nor does a test wait for as long as it then takes to print where it panicked.
export RUST_BACKTRACE=0
root=${CARGO_TARGET_DIR:-target}

# They measure the process's memory, in which the sanitizer keeps what was freed.
skipped=(--skip cycles_leave_nothing)

for sanitizer in "${sanitizers[@]}"; do
    printf '\n== %s\n' "$sanitizer"
    export RUSTFLAGS="-Zsanitizer=$sanitizer -Zexternal-clangrt -Clinker=clang-22 -Clink-arg=-fsanitize=$sanitizer"
    export CARGO_TARGET_DIR=$root/sanitize-$sanitizer
    cargo test -Z build-std --target "$target" --no-fail-fast "$@" -- "${skipped[@]}"
done
