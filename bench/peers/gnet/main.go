// The peer gnet: the echo of gnet-benchmarks, and an HTTP that finds the ends of heads as it does, on
// one event loop unless --threads says otherwise. Built with gnet's optimized poller (poll_opt) and
// the compiler's flags of gnet-benchmarks.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/panjf2000/gnet/v2"
)

const (
	usageCode  = 2
	readBytes  = 64 * 1024
	udpBuffer  = 1 << 20
	maxThreads = 256 // gnet's own limit
)

// ready says that the listener is open: gnet calls OnBoot when it is.
type ready struct {
	gnet.BuiltinEventEngine
}

func (*ready) OnBoot(gnet.Engine) gnet.Action {
	fmt.Println("ready")
	return gnet.None
}

// echo serves streams and datagrams alike.
type echo struct{ ready }

func (*echo) OnTraffic(c gnet.Conn) gnet.Action {
	bytes, _ := c.Next(-1)
	// A failed write closes the connection by itself.
	_, _ = c.Write(bytes)
	return gnet.None
}

// broadcast runs on one loop, so its list needs no lock.
type broadcast struct {
	ready
	connections []gnet.Conn
}

func (b *broadcast) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(len(b.connections))
	b.connections = append(b.connections, c)
	return nil, gnet.None
}

func (b *broadcast) OnClose(c gnet.Conn, _ error) gnet.Action {
	at, last := c.Context().(int), len(b.connections)-1
	b.connections[at] = b.connections[last]
	b.connections[at].SetContext(at)
	b.connections = b.connections[:last]
	return gnet.None
}

func (b *broadcast) OnTraffic(c gnet.Conn) gnet.Action {
	bytes, _ := c.Next(-1)
	// Backwards: a write that fails closes its connection, and OnClose moves the last one there.
	for i := len(b.connections) - 1; i >= 0; i-- {
		_, _ = b.connections[i].Write(bytes)
	}
	return gnet.None
}

func fail(code int, format string, values ...any) {
	fmt.Fprintf(os.Stderr, "gnet: "+format+"\n", values...)
	os.Exit(code)
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	found := "unknown"
	for _, module := range info.Deps {
		if module.Path == "github.com/panjf2000/gnet/v2" {
			found = module.Version
		}
	}
	for _, setting := range info.Settings {
		if setting.Key == "-tags" {
			found += " (" + setting.Value + ")"
		}
	}
	return fmt.Sprintf("gnet %s, %s", found, runtime.Version())
}

// log keeps what went wrong, on standard error: standard output is for `ready`.
type log struct{}

func (log) Debugf(string, ...any) {}
func (log) Infof(string, ...any)  {}
func (log) Warnf(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "gnet: "+format+"\n", values...)
}
func (l log) Errorf(format string, values ...any) { l.Warnf(format, values...) }
func (log) Fatalf(format string, values ...any)   { fail(1, format, values...) }

const usage = "usage: gnet MODE HOST:PORT [--threads N], MODE one of: echo udp http broadcast"

func arguments() (mode, address string, threads int) {
	threads = 1
	var words []string
	for i := 1; i < len(os.Args); i++ {
		switch argument := os.Args[i]; {
		case argument == "--version":
			fmt.Println(version())
			os.Exit(0)
		case argument == "--threads" && i+1 < len(os.Args):
			i++
			count, err := strconv.Atoi(os.Args[i])
			if err != nil || count < 1 || count > maxThreads {
				fail(usageCode, "--threads needs a number from 1 to %d", maxThreads)
			}
			threads = count
		case len(words) == 2 || argument == "" || argument[0] == '-':
			fail(usageCode, "unknown argument: %s; %s", argument, usage)
		default:
			words = append(words, argument)
		}
	}
	if len(words) != 2 {
		fail(usageCode, "MODE and HOST:PORT are needed; %s", usage)
	}
	return words[0], words[1], threads
}

func main() {
	mode, address, threads := arguments()
	network := "tcp"
	var handler gnet.EventHandler
	switch mode {
	case "echo":
		handler = &echo{}
	case "udp":
		network = "udp"
		handler = &echo{}
	case "http":
		handler = &httpServer{}
	case "broadcast":
		if threads > 1 {
			fail(usageCode, "broadcast has one thread: its receivers are one list")
		}
		handler = &broadcast{}
	default:
		fail(usageCode, "unknown mode: %s; %s", mode, usage)
	}
	options := []gnet.Option{
		gnet.WithNumEventLoop(threads),
		gnet.WithLockOSThread(true),
		gnet.WithReadBufferCap(readBytes),
		gnet.WithLogger(log{}),
		gnet.WithReuseAddr(true),
	}
	if network == "udp" {
		options = append(options, gnet.WithSocketRecvBuffer(udpBuffer))
	}
	// Several loops of datagrams need a socket each; streams are dealt out by the main reactor.
	if network == "udp" && threads > 1 {
		options = append(options, gnet.WithReusePort(true))
	}
	if err := gnet.Run(handler, network+"://"+address, options...); err != nil {
		fail(1, "%v", err)
	}
}
