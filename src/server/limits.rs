//! The limits of a server on those who come in.

use std::time::Duration;

use crate::options::WhenFull;
use crate::server::Server;

impl Server {
    /// Ends accepted connections on which nothing at all was received for this long; a PROXY header
    /// and a TLS handshake do not count. Default `None`: never, as in some protocols the server speaks
    /// first and the client may take its time.
    pub fn first_byte_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.first_byte_timeout = timeout.into();
        self
    }

    /// Accepted connections that the whole server has at a time, at most, and what becomes of
    /// more. A connection counts until its socket is closed, which may be a moment after its
    /// `on_close`. Default: no limit but the system's on descriptors.
    pub fn max_connections(mut self, connections: usize, when_full: WhenFull) -> Self {
        self.options.max_connections = connections;
        self.options.when_full = when_full;
        self
    }

    /// Accepted connections from one IPv4 address, or from one IPv6 network of 64 bits, at most;
    /// more are closed at once. Default: no limit, as many users may share an address. Behind a
    /// proxy it is the proxy's address that counts, whatever a PROXY header says.
    pub fn max_connections_per_ip(mut self, connections: usize) -> Self {
        self.options.max_connections_per_ip = connections;
        self
    }

    /// Connections that the whole server accepts in a second, at most; a tenth of that may come
    /// at once. More wait in the backlog. Default: no limit.
    pub fn accept_rate(mut self, per_second: u32) -> Self {
        self.options.accept_rate = Some(per_second);
        self
    }
}
