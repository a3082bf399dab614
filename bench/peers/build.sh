#!/bin/sh
# Builds the peers named, or all of them, into target/NAME. What lacks a tool is skipped with a
# message that says what to install; a build that fails makes the script fail at its end.
set -u
cd "$(dirname "$0")" || exit 1
all="floor floor-uring libuv gnet netty tokio monoio compio may"
failed=""

# lacks NAME 'HOW TO INSTALL' COMMAND...: says what is missing, if anything is.
lacks() {
    name=$1 install=$2
    shift 2
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null 2>&1; then
            echo "skipped $name: there is no $tool; to install it: $install" >&2
            return 0
        fi
    done
    return 1
}

# has_library NAME PACKAGE: whether gcc finds the C library of a peer.
has_library() {
    pkg-config --exists "$2" 2>/dev/null && return 0
    echo "skipped $1: there is no $2; to install it: apt-get install -y $3 pkg-config" >&2
    return 1
}

c_program() {
    name=$1
    shift
    mkdir -p "target/$name" &&
        gcc -std=gnu17 -O2 -Wall -Wextra -Wshadow -o "target/$name/$name" \
            common/common.c "$name"/*.c "$@" -lpthread
}

rust_program() {
    CARGO_TARGET_DIR="$PWD/target/$1/cargo" \
        cargo build --quiet --release --locked --manifest-path "$1/Cargo.toml" &&
        cp "target/$1/cargo/release/peer-$1" "target/$1/$1"
}

build() {
    case $1 in
    floor)
        lacks floor "apt-get install -y gcc libc6-dev" gcc || c_program floor
        ;;
    floor-uring)
        lacks floor-uring "apt-get install -y gcc libc6-dev" gcc ||
            { has_library floor-uring liburing liburing-dev && c_program floor-uring -luring \
                "-DLIBURING_VERSION=\"$(pkg-config --modversion liburing)\""; }
        ;;
    libuv)
        lacks libuv "apt-get install -y gcc libc6-dev" gcc ||
            { has_library libuv libuv libuv1-dev && c_program libuv -luv; }
        ;;
    gnet)
        lacks gnet "the Go toolchain, 1.20 or newer" go ||
            { mkdir -p target/gnet &&
                (cd gnet && go build -tags=poll_opt -gcflags=-l=4 "-ldflags=-s -w" -o ../target/gnet/gnet .); }
        ;;
    netty)
        lacks netty "apt-get install -y openjdk-17-jdk-headless maven" java mvn ||
            { (cd netty && mvn --quiet --batch-mode package) && cp netty/run.sh target/netty/netty; }
        ;;
    tokio | monoio | compio | may)
        lacks "$1" "the Rust toolchain" cargo gcc || rust_program "$1"
        ;;
    *)
        echo "there is no peer $1; there are: $all" >&2
        return 2
        ;;
    esac
}

[ $# -gt 0 ] || { echo "usage: $0 NAME...|all; names: $all" >&2; exit 2; }
[ "$1" = all ] && set -- $all
for name in "$@"; do
    echo "building $name" >&2
    build "$name" || failed="$failed $name"
done
[ -z "$failed" ] || { echo "not built:$failed" >&2; exit 1; }
