package tightloop.peers;

import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.group.ChannelGroup;
import io.netty.channel.group.ChannelMatchers;
import io.netty.channel.group.DefaultChannelGroup;
import io.netty.util.concurrent.EventExecutor;
import java.util.ArrayList;
import java.util.List;

/** Writes what it receives to a group of all channels; while one of them is behind, nobody is read. */
final class Broadcast extends Stream {
    /** Touched by the one event loop only. */
    static final class Room {
        private final ChannelGroup all;
        private final List<Channel> paused = new ArrayList<>();
        private int behind;

        Room(EventExecutor loop) {
            all = new DefaultChannelGroup(loop);
        }
    }

    private final Room room;
    private boolean isBehind;

    Broadcast(Room room) {
        this.room = room;
    }

    @Override
    public void channelActive(ChannelHandlerContext context) {
        room.all.add(context.channel()); // it leaves the group by itself when it is closed
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object bytes) {
        room.all.writeAndFlush(bytes, ChannelMatchers.all(), true);
        if (room.behind > 0) {
            context.channel().config().setAutoRead(false);
            room.paused.add(context.channel());
        }
    }

    @Override
    public void channelReadComplete(ChannelHandlerContext context) {}

    @Override
    public void channelWritabilityChanged(ChannelHandlerContext context) {
        setBehind(!context.channel().isWritable());
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) {
        setBehind(false);
    }

    private void setBehind(boolean isBehind) {
        if (this.isBehind == isBehind) {
            return;
        }
        this.isBehind = isBehind;
        room.behind += isBehind ? 1 : -1;
        if (room.behind == 0) {
            room.paused.forEach(channel -> channel.config().setAutoRead(true));
            room.paused.clear();
        }
    }
}
