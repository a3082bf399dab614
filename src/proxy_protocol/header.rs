//! [`ProxyHeader`]: what a header says, received or to be sent.

use super::error::ProxyEncodeError;
use super::tlv::{self, SslInfo, Tlv, Tlvs};
use super::{v1, v2};
use crate::addr::Address;

/// The two formats of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "what is specified")]
pub enum Version {
    /// One line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// A header of the PROXY protocol: who the client of a proxy is, and what else the proxy says.
///
/// ```
/// use std::net::SocketAddr;
/// use tightloop::proxy_protocol::{self, Parsed, ProxyHeader};
///
/// let client: SocketAddr = "192.0.2.1:56324".parse()?;
/// let server: SocketAddr = "192.0.2.11:443".parse()?;
///
/// let bytes = ProxyHeader::v1(client, server).encode()?;
/// assert_eq!(bytes, b"PROXY TCP4 192.0.2.1 192.0.2.11 56324 443\r\n");
///
/// let header = ProxyHeader::v2(client, server).with_authority("example.com")?.with_crc32c()?;
/// let mut bytes = header.encode()?;
/// bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
///
/// let parsed = proxy_protocol::parse(&bytes, proxy_protocol::DEFAULT_MAX_HEADER)?;
/// let Parsed::Header { header, length } = parsed else { panic!("it is all there") };
/// assert_eq!(header.source(), Some(&client.into()));
/// assert_eq!(header.authority(), Some("example.com"));
/// assert_eq!(&bytes[length..], b"GET / HTTP/1.1\r\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    pub(super) version: Version,
    pub(super) is_local: bool,
    /// Valid where there are endpoints.
    pub(super) is_datagram: bool,
    /// Source and destination; `None` where the header does not say them. IPv4 addresses are never
    /// written as IPv6 ones here.
    pub(super) endpoints: Option<(Address, Address)>,
    /// INVARIANT: well-formed vectors, each valid; none in version 1.
    pub(super) tlvs: Vec<u8>,
}

/// What it says.
impl ProxyHeader {
    /// The format it came in, or is to be sent in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The client's address. `None` where the header does not say it (`LOCAL`, `UNKNOWN`,
    /// `UNSPEC`): then the socket's own peer is all there is to know.
    pub fn source(&self) -> Option<&Address> {
        self.endpoints.as_ref().map(|(source, _)| source)
    }

    /// The address that the client has connected to, `None` as for [`source`](Self::source).
    pub fn destination(&self) -> Option<&Address> {
        self.endpoints.as_ref().map(|(_, destination)| destination)
    }

    /// Whether the proxy speaks for itself (command `LOCAL` of version 2), as in a health check.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether the client spoke datagrams to the proxy (UDP, or a Unix datagram socket).
    pub fn is_datagram(&self) -> bool {
        self.is_datagram
    }

    /// All vectors, in the order they were sent; none in version 1.
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs::new(&self.tlvs)
    }

    /// The value of the first vector of that type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().first(kind)
    }

    /// The protocol that client and proxy have agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(Tlv::ALPN)
    }

    /// The host name that the client asked for. `None` also where it is not UTF-8; the bytes are
    /// then in [`tlv`](Self::tlv). Chosen by the client: it is no host name until you have looked.
    pub fn authority(&self) -> Option<&str> {
        text(self.tlv(Tlv::AUTHORITY))
    }

    /// What identifies the connection over several proxies, at most 128 bytes.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.tlv(Tlv::UNIQUE_ID)
    }

    /// The name of the network namespace that the proxy took the connection in. `None` also where
    /// it is not UTF-8.
    pub fn netns(&self) -> Option<&str> {
        text(self.tlv(Tlv::NETNS))
    }

    /// How the client spoke TLS to the proxy.
    pub fn ssl(&self) -> Option<SslInfo<'_>> {
        self.tlv(Tlv::SSL).and_then(SslInfo::parse)
    }

    /// The checksum that came with it: verified, or it would not have been taken.
    pub fn crc32c(&self) -> Option<u32> {
        let value = self.tlv(Tlv::CRC32C)?.try_into().ok()?;
        Some(u32::from_be_bytes(value))
    }
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    value.and_then(|value| std::str::from_utf8(value).ok())
}

/// To be sent.
impl ProxyHeader {
    /// A line of text: `TCP4` where both are IPv4 addresses, `TCP6` where one is IPv6, and
    /// `UNKNOWN` for Unix sockets, which version 1 cannot say.
    pub fn v1(source: impl Into<Address>, destination: impl Into<Address>) -> Self {
        Self::new(Version::V1, Some((source.into(), destination.into())))
    }

    /// The line `PROXY UNKNOWN`: some client, and the receiver is to take the socket's own
    /// addresses. Some receivers refuse it.
    pub fn v1_unknown() -> Self {
        Self::new(Version::V1, None)
    }

    /// A binary header for a stream: two IP addresses (an IPv4 one is written as an IPv6 one where
    /// the other is IPv6), or two Unix sockets.
    pub fn v2(source: impl Into<Address>, destination: impl Into<Address>) -> Self {
        Self::new(Version::V2, Some((source.into(), destination.into())))
    }

    /// A binary header that says no addresses: the receiver takes the socket's own, or refuses it,
    /// as it is free to (HAProxy does).
    pub fn v2_unspecified() -> Self {
        Self::new(Version::V2, None)
    }

    /// The command `LOCAL` of version 2: the connection is the proxy's own, as for a health check.
    pub fn v2_local() -> Self {
        ProxyHeader { is_local: true, ..Self::new(Version::V2, None) }
    }

    fn new(version: Version, endpoints: Option<(Address, Address)>) -> Self {
        let endpoints = endpoints.map(|(a, b)| (canonical(a), canonical(b)));
        let (is_local, is_datagram) = (false, false);
        ProxyHeader { version, is_local, is_datagram, endpoints, tlvs: Vec::new() }
    }

    /// The client spoke datagrams to the proxy. Version 1 then says `UNKNOWN`.
    #[must_use]
    pub fn with_datagram(mut self) -> Self {
        self.is_datagram = self.endpoints.is_some();
        self
    }

    /// Adds a vector of any type.
    ///
    /// # Errors
    /// [`NotInVersion1`](ProxyEncodeError::NotInVersion1);
    /// [`InvalidTlv`](ProxyEncodeError::InvalidTlv) for a value of more than 65,535 bytes (128 for
    /// a unique ID), an SSL value that is not well-formed, or a checksum.
    pub fn with_tlv(self, kind: u8, value: impl AsRef<[u8]>) -> Result<Self, ProxyEncodeError> {
        let tlv = Tlv { kind, value: value.as_ref() };
        let fits = tlv.value.len() <= u16::MAX.into();
        if self.version == Version::V2 && (kind == Tlv::CRC32C || !fits || !tlv::is_valid(tlv)) {
            return Err(ProxyEncodeError::InvalidTlv(kind));
        }
        self.append(tlv)
    }

    /// Adds the protocol agreed by ALPN.
    ///
    /// # Errors
    /// As for [`with_tlv`](Self::with_tlv).
    pub fn with_alpn(self, protocol: impl AsRef<[u8]>) -> Result<Self, ProxyEncodeError> {
        self.with_tlv(Tlv::ALPN, protocol)
    }

    /// Adds the host name that the client asked for.
    ///
    /// # Errors
    /// As for [`with_tlv`](Self::with_tlv).
    pub fn with_authority(self, name: impl AsRef<str>) -> Result<Self, ProxyEncodeError> {
        self.with_tlv(Tlv::AUTHORITY, name.as_ref())
    }

    /// Adds what identifies the connection, at most 128 bytes.
    ///
    /// # Errors
    /// As for [`with_tlv`](Self::with_tlv).
    pub fn with_unique_id(self, id: impl AsRef<[u8]>) -> Result<Self, ProxyEncodeError> {
        self.with_tlv(Tlv::UNIQUE_ID, id)
    }

    /// Adds how the client spoke TLS: [`SslInfo::flags`], [`SslInfo::verify`] and the vectors
    /// within.
    ///
    /// # Errors
    /// As for [`with_tlv`](Self::with_tlv).
    pub fn with_ssl(
        self,
        flags: u8,
        verify: u32,
        tlvs: &[Tlv<'_>],
    ) -> Result<Self, ProxyEncodeError> {
        let mut value = vec![flags];
        value.extend_from_slice(&verify.to_be_bytes());
        for tlv in tlvs {
            if tlv.value.len() > u16::MAX.into() {
                return Err(ProxyEncodeError::InvalidTlv(tlv.kind));
            }
            tlv::append(&mut value, *tlv);
        }
        self.with_tlv(Tlv::SSL, value)
    }

    /// Adds a checksum over the whole header, which the receiver has to verify. It is computed by
    /// [`encode`](Self::encode). A second call changes nothing.
    ///
    /// # Errors
    /// [`NotInVersion1`](ProxyEncodeError::NotInVersion1).
    pub fn with_crc32c(self) -> Result<Self, ProxyEncodeError> {
        match self.tlv(Tlv::CRC32C) {
            Some(_) => Ok(self),
            None => self.append(Tlv { kind: Tlv::CRC32C, value: &[0; 4] }),
        }
    }

    fn append(mut self, tlv: Tlv<'_>) -> Result<Self, ProxyEncodeError> {
        if self.version == Version::V1 {
            return Err(ProxyEncodeError::NotInVersion1);
        }
        tlv::append(&mut self.tlvs, tlv);
        Ok(self)
    }

    /// The header's bytes. A header that was received can be sent on; its checksum is computed
    /// anew. Scopes and flow labels of IPv6 addresses are not told: the protocol has none.
    ///
    /// # Errors
    /// [`MixedFamilies`](ProxyEncodeError::MixedFamilies),
    /// [`InvalidPath`](ProxyEncodeError::InvalidPath) and [`TooLong`](ProxyEncodeError::TooLong),
    /// each in version 2 only.
    pub fn encode(&self) -> Result<Vec<u8>, ProxyEncodeError> {
        match self.version {
            Version::V1 => Ok(v1::encode(self)),
            Version::V2 => v2::encode(self),
        }
    }
}

/// The enum's variant may be made with an IPv4 address in IPv6 dress.
fn canonical(address: Address) -> Address {
    match address {
        Address::Ip(address) => Address::from(address),
        unix => unix,
    }
}
