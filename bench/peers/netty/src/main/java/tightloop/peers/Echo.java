package tightloop.peers;

import io.netty.channel.ChannelHandlerContext;

/** Sends back the buffer that was received. */
final class Echo extends Stream {
    @Override
    public void channelRead(ChannelHandlerContext context, Object bytes) {
        context.write(bytes, context.voidPromise());
    }
}
