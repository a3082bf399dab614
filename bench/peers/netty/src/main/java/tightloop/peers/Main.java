package tightloop.peers;

import io.netty.bootstrap.Bootstrap;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.ChannelHandler;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.FixedRecvByteBufAllocator;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.WriteBufferWaterMark;
import io.netty.channel.epoll.EpollChannelOption;
import io.netty.channel.epoll.EpollDatagramChannel;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.epoll.EpollServerSocketChannel;
import io.netty.channel.socket.SocketChannel;
import io.netty.util.Version;
import java.net.InetSocketAddress;
import java.util.function.Consumer;

/** The peer netty: its epoll transport, one event loop unless --threads says otherwise. */
public final class Main {
    private static final int USAGE = 2;
    private static final int MAX_THREADS = 256;
    /** The kernel takes the smaller of this and somaxconn. */
    private static final int BACKLOG = 65_535;
    private static final int DATAGRAM_BYTES = 65_536;
    /** With --mmsg: the size that netty takes for the largest by default, and how many at once. */
    private static final int BATCH_DATAGRAM_BYTES = 2048;
    private static final int BATCH = 32;
    private static final int UDP_RECEIVE_BYTES = 1 << 20;
    /** Beyond the second, a connection is not read; the default is less than a bulk message. */
    private static final WriteBufferWaterMark MARKS = new WriteBufferWaterMark(512 << 10, 1 << 20);

    private Main() {}

    public static void main(String[] arguments) throws InterruptedException {
        String mode = null;
        String place = null;
        int threads = 1;
        boolean isBatched = false;
        for (int i = 0; i < arguments.length; i++) {
            String argument = arguments[i];
            if (argument.equals("--version")) {
                System.out.println(version());
                return;
            } else if (argument.equals("--threads")) {
                i++;
                threads = threads(i < arguments.length ? arguments[i] : "");
            } else if (argument.equals("--mmsg")) {
                isBatched = true;
            } else if (argument.startsWith("-") || place != null) {
                usage("unknown argument: " + argument);
            } else if (mode == null) {
                mode = argument;
            } else {
                place = argument;
            }
        }
        if (place == null) {
            usage("MODE and HOST:PORT are needed");
        }
        serve(mode, address(place), threads, isBatched);
    }

    private static void serve(
            String mode, InetSocketAddress address, int threads, boolean isBatched)
            throws InterruptedException {
        if (mode.equals("broadcast") && threads > 1) {
            usage("broadcast has one thread: its state is not shared");
        }
        EventLoopGroup loops =
                new MultiThreadIoEventLoopGroup(threads, EpollIoHandler.newFactory());
        switch (mode) {
            case "echo" -> streams(loops, address, channel -> channel.pipeline().addLast(new Echo()));
            case "http" -> streams(loops, address, Http::addTo);
            case "broadcast" -> {
                Broadcast.Room room = new Broadcast.Room(loops.next());
                streams(loops, address, channel -> channel.pipeline().addLast(new Broadcast(room)));
            }
            case "udp" -> datagrams(loops, address, threads, isBatched);
            default -> usage("unknown mode: " + mode);
        }
        System.out.println("ready");
        System.out.flush();
    }

    /** One group accepts and serves: with one thread there is none to spare for a boss. */
    private static void streams(
            EventLoopGroup loops, InetSocketAddress address, Consumer<SocketChannel> prepare)
            throws InterruptedException {
        ChannelHandler initializer = new ChannelInitializer<SocketChannel>() {
            @Override
            protected void initChannel(SocketChannel channel) {
                prepare.accept(channel);
            }
        };
        new ServerBootstrap()
                .group(loops)
                .channel(EpollServerSocketChannel.class)
                .option(ChannelOption.SO_BACKLOG, BACKLOG)
                .option(ChannelOption.SO_REUSEADDR, true)
                .childOption(ChannelOption.TCP_NODELAY, true)
                .childOption(ChannelOption.ALLOW_HALF_CLOSURE, true)
                .childOption(ChannelOption.WRITE_BUFFER_WATER_MARK, MARKS)
                .childHandler(initializer)
                .bind(address)
                .sync();
    }

    private static void datagrams(
            EventLoopGroup loops, InetSocketAddress address, int threads, boolean isBatched)
            throws InterruptedException {
        Bootstrap bootstrap = new Bootstrap()
                .group(loops)
                .channel(EpollDatagramChannel.class)
                .option(EpollChannelOption.SO_REUSEPORT, threads > 1)
                .option(ChannelOption.SO_RCVBUF, UDP_RECEIVE_BYTES)
                .option(
                        ChannelOption.RECVBUF_ALLOCATOR,
                        new FixedRecvByteBufAllocator(
                                isBatched ? BATCH_DATAGRAM_BYTES * BATCH : DATAGRAM_BYTES))
                .handler(new DatagramEcho());
        if (isBatched) {
            bootstrap.option(EpollChannelOption.MAX_DATAGRAM_PAYLOAD_SIZE, BATCH_DATAGRAM_BYTES);
        }
        for (int i = 0; i < threads; i++) {
            bootstrap.bind(address).sync();
        }
    }

    private static InetSocketAddress address(String place) {
        int colon = place.lastIndexOf(':');
        try {
            String host = place.substring(0, colon).replaceAll("^\\[|\\]$", "");
            InetSocketAddress found =
                    new InetSocketAddress(host, Integer.parseInt(place.substring(colon + 1)));
            if (!found.isUnresolved()) {
                return found;
            }
        } catch (IllegalArgumentException | IndexOutOfBoundsException wrong) {
            // said below
        }
        usage("not HOST:PORT: " + place);
        throw new AssertionError();
    }

    private static int threads(String text) {
        try {
            int count = Integer.parseInt(text);
            if (count >= 1 && count <= MAX_THREADS) {
                return count;
            }
        } catch (NumberFormatException wrong) {
            // said below
        }
        usage("--threads needs a number from 1 to " + MAX_THREADS);
        return 0;
    }

    private static String version() {
        Version netty = Version.identify().get("netty-transport-classes-epoll");
        String found = netty == null ? "unknown" : netty.artifactVersion();
        return "netty " + found + ", Java " + System.getProperty("java.runtime.version");
    }

    private static void usage(String what) {
        System.err.println("netty: " + what + "; usage: netty MODE HOST:PORT [--threads N] [--mmsg],"
                + " MODE one of: echo udp http broadcast");
        System.exit(USAGE);
    }
}
