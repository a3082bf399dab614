//! The PROXY protocol, versions 1 and 2: the header by which a proxy tells the server behind it who
//! the client is, after HAProxy's specification (`doc/proxy-protocol.txt`, 2020/03/05).
//!
//! [`parse`] reads a header from the first bytes of a connection and [`ProxyHeader::encode`] writes
//! one; neither does I/O. Reading is strict where the specification says *must*:
//!
//! - Version 1: words parted by one space, addresses and ports in canonical form, CRLF within 107
//!   bytes. What stands behind `UNKNOWN` is ignored, as is demanded. IPv6 addresses may end in a
//!   dotted quad (`::ffff:192.0.2.1`), which common senders do.
//! - Version 2: the commands `LOCAL` and `PROXY`; the families and transports of the specification;
//!   vectors that end where the header ends; a checksum, if there is one, that is right. What
//!   comes with `LOCAL` or without a known family says no addresses; its vectors are readable where
//!   they are well-formed.
//!
//! Bytes that cannot become a header are refused as soon as they are seen.
//!
//! An IPv4 address that is written as an IPv6 one (`::ffff:a.b.c.d`) is given as IPv4.
//!
//! A header is as trustworthy as who sends it: anybody who can connect can claim to be anybody.

mod crc32c;
mod error;
mod header;
mod policy;
#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

pub use error::{ProxyEncodeError, ProxyError};
pub use header::{ProxyHeader, Version};
pub use policy::ProxyProtocol;
pub(crate) use policy::Sender;
pub use tlv::{SslInfo, Tlv, Tlvs};

/// How long a header may be by default, in bytes, with its vectors: the longest addresses and a
/// chain of names have room; a certificate, which nobody should send, has not.
pub const DEFAULT_MAX_HEADER: usize = 4096;

/// The longest header there can be, in bytes: 16 and a 16-bit length.
pub const MAX_HEADER: usize = 16 + 65_535;

/// What [`parse`] made of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "bytes are a header or not yet one")]
pub enum Parsed {
    /// It may become a header: call again with these bytes and more.
    Incomplete,
    /// There is a header.
    Header {
        /// What it says.
        header: ProxyHeader,
        /// How many bytes it took; what follows is the client's.
        length: usize,
    },
}

/// Reads a header of either version from the beginning of `input`, of at most `max_header` bytes
/// (a line of version 1 is at most 107 in any case).
///
/// It keeps nothing between calls, and costs next to nothing until the header is complete; however
/// the bytes arrive, the result is the same.
///
/// # Errors
/// What is wrong, at the first byte that is.
///
/// ```
/// use tightloop::proxy_protocol::{DEFAULT_MAX_HEADER, Parsed, ProxyError, parse};
///
/// assert_eq!(parse(b"PROXY TCP4 192.0", DEFAULT_MAX_HEADER), Ok(Parsed::Incomplete));
/// assert_eq!(parse(b"GET / HTTP/1.1\r\n", DEFAULT_MAX_HEADER), Err(ProxyError::NotAHeader));
/// ```
pub fn parse(input: &[u8], max_header: usize) -> Result<Parsed, ProxyError> {
    let parsed = match input.first() {
        None => return Ok(Parsed::Incomplete),
        Some(first) if *first == v1::PREFIX[0] => v1::parse(input),
        Some(_) => v2::parse(input, max_header),
    };
    match parsed {
        Ok(parsed) => Ok(parsed),
        Err(Stop::Incomplete) => Ok(Parsed::Incomplete),
        Err(Stop::Fault(error)) => Err(error),
    }
}

/// Why a parser has no header.
enum Stop {
    Incomplete,
    Fault(ProxyError),
}

impl From<ProxyError> for Stop {
    fn from(error: ProxyError) -> Self {
        Stop::Fault(error)
    }
}
