package main

import (
	"bytes"

	"github.com/panjf2000/gnet/v2"
)

const (
	answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n" +
		"Hello, World!"
	refused = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	// A head that is longer is refused.
	headBytes = 8 * 1024
)

var (
	headEnd = []byte("\r\n\r\n")
	get     = []byte("GET ")
)

// httpServer finds the ends of heads, like the HTTP server of gnet-benchmarks. One loop calls it
// for one connection at a time, but several loops share it: so the answers are a connection's.
type httpServer struct{ ready }

type answers struct{ bytes []byte }

func (*httpServer) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(&answers{})
	return nil, gnet.None
}

func (*httpServer) OnTraffic(c gnet.Conn) gnet.Action {
	out := c.Context().(*answers)
	in, _ := c.Peek(-1)
	all := len(in)
	action := gnet.None
	for at := bytes.Index(in, headEnd); at >= 0; at = bytes.Index(in, headEnd) {
		if !bytes.HasPrefix(in, get) {
			action = gnet.Close
			break
		}
		out.bytes = append(out.bytes, answer...)
		in = in[at+len(headEnd):]
	}
	if len(in) > headBytes {
		action = gnet.Close
	}
	if action == gnet.Close {
		out.bytes = append(out.bytes, refused...)
	}
	if len(out.bytes) > 0 {
		_, _ = c.Write(out.bytes)
		out.bytes = out.bytes[:0]
	}
	if done := all - len(in); done > 0 {
		_, _ = c.Discard(done)
	}
	return action
}
