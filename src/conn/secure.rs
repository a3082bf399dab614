//! What a connection's handler asks about TLS, and how it begins it in mid-stream.

use crate::conn::Conn;
#[cfg(feature = "tls")]
use crate::error::{Error, Result};
use crate::tls::TlsInfo;
#[cfg(feature = "tls")]
use crate::{conn::state::Phase, tls::StartTls};

impl Conn<'_> {
    /// What the TLS handshake has agreed on; `None` for a connection in plaintext, and before the
    /// handshake is done.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.core.table.get(self.token)?.extra.as_ref()?.tls_info.as_deref()
    }

    /// Begins TLS in mid-stream, on the side that the argument says (STARTTLS and the like). What
    /// was written before leaves in plaintext, what is written from now on is encrypted, and waits
    /// for the handshake. Its end is told by
    /// [`on_secured`](crate::Handler::on_secured), or by
    /// `on_close` with [`Tls`](crate::CloseReason::Tls) or
    /// [`HandshakeTimeout`](crate::CloseReason::HandshakeTimeout). The handshake goes on also while
    /// reading is paused.
    ///
    /// Input that the callback leaves unconsumed is taken for the beginning of the peer's handshake,
    /// never for plaintext: commands that somebody has smuggled in before the encryption break it
    /// (as in CVE-2011-0411).
    ///
    /// ```
    /// use tightloop::tls::TlsAcceptor;
    /// use tightloop::{Action, Conn};
    ///
    /// fn on_starttls(conn: &mut Conn<'_>, acceptor: &TlsAcceptor) -> Action {
    ///     conn.write(b"220 go ahead\r\n"); // the last words in plaintext
    ///     match conn.start_tls(acceptor) {
    ///         Ok(()) => Action::Continue,
    ///         Err(_) => Action::Close,
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] on a connection that has TLS already, is closing, or of which either
    /// side has closed its sending half.
    #[cfg(feature = "tls")]
    pub fn start_tls(&mut self, side: impl Into<StartTls>) -> Result<()> {
        self.copy_lent();
        let refused = |what: &str| Err(Error::Unsupported { what: what.to_owned() });
        let Some(conn) = self.core.table.get_mut(self.token) else {
            return refused("TLS on a connection that is gone");
        };
        if conn.phase != Phase::Open || !conn.takes_output() || conn.eof {
            return refused("TLS on a connection that is not open in both directions");
        }
        if conn.datagrams {
            return refused("TLS on datagrams");
        }
        if conn.secured || conn.want_tls {
            return refused("TLS in TLS");
        }
        let written = conn.sent + conn.outbound.len() as u64;
        let extra = conn.extra_mut();
        extra.tls = Some(side.into().sessions());
        extra.tls_at = written;
        conn.want_tls = true;
        self.core.touch(self.token);
        Ok(())
    }
}
