#!/bin/sh
# Runs the peer netty, beside whose jar the build puts this, with flags of its entry at TechEmpower: a parallel collector, checks of
# buffers and the search for leaks off. A fixed heap keeps the collector from resizing it; that, no perf data and a recycler
# that does not block are ours.
here=$(dirname "$0")
exec java -server -Xms512m -Xmx512m -XX:+UseParallelGC -XX:-UsePerfData \
    -Dio.netty.allocator.type=pooled \
    -Dio.netty.leakDetection.level=disabled \
    -Dio.netty.buffer.checkBounds=false \
    -Dio.netty.buffer.checkAccessible=false \
    -Dio.netty.recycler.blocking=false \
    ${PEER_NETTY_FLAGS:-} \
    -jar "$here/peer-netty.jar" "$@"
