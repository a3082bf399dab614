//! The socket options that a handler may set on its connection.

use std::io;
use std::time::Duration;

use socket2::SockRef;

use crate::conn::Conn;
use crate::conn::rare::Rare;
use crate::sys::sockopt::{Keepalive, set_linger};

impl Conn<'_> {
    /// The socket, for options that have no method here. Its blocking mode must stay off.
    ///
    /// # Errors
    /// `NotConnected` if the socket is gone, or there is none.
    #[doc(alias = "Dup")]
    pub fn socket(&self) -> io::Result<SockRef<'_>> {
        self.sockets.socket(self.token).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Turns Nagle's algorithm off (`true`, the server's default) or on. TCP only.
    ///
    /// # Errors
    /// The system's, for other sockets.
    #[doc(alias = "SetNoDelay")]
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket()?.set_tcp_nodelay(on)
    }

    /// Sets TCP keepalive, or turns it off.
    ///
    /// # Errors
    /// `InvalidInput` for durations below a second; the system's, for other sockets.
    #[doc(alias = "SetKeepAlive")]
    #[doc(alias = "SetKeepAlivePeriod")]
    pub fn set_keepalive(&self, keepalive: impl Into<Option<Keepalive>>) -> io::Result<()> {
        match keepalive.into() {
            Some(keepalive) => keepalive.apply(&*self.socket()?),
            None => self.socket()?.set_keepalive(false),
        }
    }

    /// Sets the kernel's send buffer, in bytes.
    ///
    /// # Errors
    /// The system's.
    #[doc(alias = "SetWriteBuffer")]
    pub fn set_socket_send_buffer(&self, bytes: usize) -> io::Result<()> {
        self.socket()?.set_send_buffer_size(bytes)
    }

    /// Sets the kernel's receive buffer, in bytes.
    ///
    /// # Errors
    /// The system's.
    #[doc(alias = "SetReadBuffer")]
    pub fn set_socket_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        self.socket()?.set_recv_buffer_size(bytes)
    }

    /// Sets SO_LINGER: zero makes the close a reset, which drops what was not sent. A longer time
    /// is kept on the socket but never waited for: at the close, which must not block the loop,
    /// the kernel goes on sending in the background.
    ///
    /// # Errors
    /// The system's.
    #[doc(alias = "SetLinger")]
    pub fn set_linger(&mut self, linger: impl Into<Option<Duration>>) -> io::Result<()> {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.rare.set(Rare::LINGER_SET, true);
        }
        match linger.into() {
            Some(linger) => set_linger(&*self.socket()?, linger),
            None => self.socket()?.set_linger(None),
        }
    }
}
