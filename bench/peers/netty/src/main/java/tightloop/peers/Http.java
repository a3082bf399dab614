package tightloop.peers;

import static io.netty.handler.codec.http.HttpHeaderNames.CONNECTION;
import static io.netty.handler.codec.http.HttpHeaderNames.CONTENT_LENGTH;
import static io.netty.handler.codec.http.HttpHeaderNames.CONTENT_TYPE;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.socket.SocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.DefaultHttpHeadersFactory;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpDecoderConfig;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpHeadersFactory;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpRequestDecoder;
import io.netty.handler.codec.http.HttpResponseEncoder;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.util.AsciiString;
import io.netty.util.ReferenceCountUtil;
import java.nio.charset.StandardCharsets;

/** The plaintext of netty's entry at TechEmpower: its codec without validation, a shared body. */
final class Http extends Stream {
    private static final byte[] TEXT = "Hello, World!".getBytes(StandardCharsets.US_ASCII);
    private static final ByteBuf BODY = Unpooled.unreleasableBuffer(
            Unpooled.directBuffer(TEXT.length).writeBytes(TEXT).asReadOnly());
    private static final AsciiString LENGTH = AsciiString.cached(Integer.toString(TEXT.length));
    private static final HttpHeadersFactory HEADERS =
            DefaultHttpHeadersFactory.headersFactory().withValidation(false);
    private static final HttpHeadersFactory TRAILERS =
            DefaultHttpHeadersFactory.trailersFactory().withValidation(false);

    static void addTo(SocketChannel channel) {
        HttpDecoderConfig config = new HttpDecoderConfig().setHeadersFactory(HEADERS);
        channel.pipeline()
                .addLast(new HttpResponseEncoder())
                .addLast(new HttpRequestDecoder(config))
                .addLast(new Http());
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        try {
            if (message instanceof HttpRequest request) {
                answer(context, request);
            }
        } finally {
            ReferenceCountUtil.release(message);
        }
    }

    private static void answer(ChannelHandlerContext context, HttpRequest request) {
        if (request.decoderResult().isFailure() || !request.method().equals(HttpMethod.GET)) {
            FullHttpResponse refusal = new DefaultFullHttpResponse(
                    HttpVersion.HTTP_1_1, HttpResponseStatus.BAD_REQUEST, Unpooled.EMPTY_BUFFER);
            refusal.headers().set(CONTENT_LENGTH, 0).set(CONNECTION, HttpHeaderValues.CLOSE);
            context.writeAndFlush(refusal).addListener(ChannelFutureListener.CLOSE);
            return;
        }
        FullHttpResponse response = new DefaultFullHttpResponse(
                HttpVersion.HTTP_1_1,
                HttpResponseStatus.OK,
                BODY.duplicate(),
                HEADERS,
                TRAILERS);
        response.headers()
                .set(CONTENT_TYPE, HttpHeaderValues.TEXT_PLAIN)
                .set(CONTENT_LENGTH, LENGTH);
        context.write(response, context.voidPromise());
    }
}
