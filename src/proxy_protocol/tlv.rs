//! Type-length-value vectors: what a header of version 2 says besides addresses.

/// One type-length-value vector of a header of version 2, as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "type and value, as specified")]
pub struct Tlv<'a> {
    /// The type. The constants are those registered by the specification; 0xE0 to 0xEF are free
    /// for applications, 0xF0 to 0xF7 for experiments.
    pub kind: u8,
    /// The value, at most 65,535 bytes.
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// The protocol agreed by ALPN, as in RFC 7301.
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for, UTF-8; with TLS its server name indication.
    pub const AUTHORITY: u8 = 0x02;
    /// The CRC32c of the header, 4 bytes.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// What identifies the connection over several proxies, at most 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What the client's TLS was like: see [`SslInfo`].
    pub const SSL: u8 = 0x20;
    /// Within [`SSL`](Tlv::SSL): the version of TLS, such as `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// Within [`SSL`](Tlv::SSL): the common name of the client's certificate, UTF-8.
    pub const SSL_CN: u8 = 0x22;
    /// Within [`SSL`](Tlv::SSL): the cipher, such as `ECDHE-RSA-AES128-GCM-SHA256`.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Within [`SSL`](Tlv::SSL): the algorithm that signed the proxy's certificate.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// Within [`SSL`](Tlv::SSL): the algorithm of the key of the proxy's certificate.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// The name of the network namespace.
    pub const NETNS: u8 = 0x30;
}

/// The most bytes that a [`Tlv::UNIQUE_ID`] may have.
const MAX_UNIQUE_ID: usize = 128;

/// The vectors of a header or of an [`SslInfo`], in the order they were sent.
#[derive(Clone, Debug)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Tlvs { rest }
    }

    /// The value of the first vector of that type.
    pub(super) fn first(mut self, kind: u8) -> Option<&'a [u8]> {
        self.find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// The same as text, `None` where it is not UTF-8.
    fn first_text(self, kind: u8) -> Option<&'a str> {
        self.first(kind).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether the bytes are vectors and nothing else.
    pub(super) fn are_well_formed(mut self) -> bool {
        while self.next().is_some() {}
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (&[kind, high, low], behind) = self.rest.split_first_chunk()?;
        let (value, rest) = behind.split_at_checked(u16::from_be_bytes([high, low]).into())?;
        self.rest = rest;
        Some(Tlv { kind, value })
    }
}

/// Whether a vector of this type can have this value, as far as the specification says.
pub(super) fn is_valid(tlv: Tlv<'_>) -> bool {
    match tlv.kind {
        Tlv::CRC32C => tlv.value.len() == 4,
        Tlv::UNIQUE_ID => tlv.value.len() <= MAX_UNIQUE_ID,
        Tlv::SSL => SslInfo::parse(tlv.value).is_some(),
        _ => true,
    }
}

/// Appends a vector; its value is at most 65,535 bytes.
pub(super) fn append(to: &mut Vec<u8>, tlv: Tlv<'_>) {
    debug_assert!(tlv.value.len() <= usize::from(u16::MAX), "checked by the caller");
    to.push(tlv.kind);
    to.extend_from_slice(&(tlv.value.len() as u16).to_be_bytes());
    to.extend_from_slice(tlv.value);
}

/// How the client spoke TLS to the proxy: the value of [`Tlv::SSL`].
///
/// Text accessors give `None` where the proxy did not say it, and where it is not UTF-8; the bytes
/// are in [`tlvs`](SslInfo::tlvs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SslInfo<'a> {
    flags: u8,
    verify: u32,
    tlvs: &'a [u8],
}

impl<'a> SslInfo<'a> {
    /// In [`flags`](SslInfo::flags): the client spoke TLS.
    pub const TLS: u8 = 0x01;
    /// In [`flags`](SslInfo::flags): the client gave a certificate on this connection.
    pub const CERT_CONN: u8 = 0x02;
    /// In [`flags`](SslInfo::flags): the client gave a certificate at least once in the TLS
    /// session that this connection belongs to.
    pub const CERT_SESS: u8 = 0x04;

    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (&[flags, a, b, c, d], tlvs) = value.split_first_chunk()?;
        let verify = u32::from_be_bytes([a, b, c, d]);
        Tlvs::new(tlvs).are_well_formed().then_some(SslInfo { flags, verify, tlvs })
    }

    /// The field `client`: the bits [`TLS`](Self::TLS), [`CERT_CONN`](Self::CERT_CONN) and
    /// [`CERT_SESS`](Self::CERT_SESS), and any others as they came.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The field `verify`: 0 where the client's certificate was verified.
    pub fn verify(&self) -> u32 {
        self.verify
    }

    /// Whether the client spoke TLS to the proxy.
    pub fn is_tls(&self) -> bool {
        self.flags & Self::TLS != 0
    }

    /// Whether the client has given a certificate, now or earlier in its TLS session, and the proxy
    /// has verified it. A `verify` of 0 alone does not say so: it is that, too, where there was no
    /// certificate, and where there was no TLS.
    pub fn is_client_verified(&self) -> bool {
        self.is_tls() && self.flags & (Self::CERT_CONN | Self::CERT_SESS) != 0 && self.verify == 0
    }

    /// The version of TLS, such as `TLSv1.3`.
    pub fn version(&self) -> Option<&'a str> {
        self.tlvs().first_text(Tlv::SSL_VERSION)
    }

    /// The common name in the client's certificate.
    pub fn common_name(&self) -> Option<&'a str> {
        self.tlvs().first_text(Tlv::SSL_CN)
    }

    /// The cipher's name.
    pub fn cipher(&self) -> Option<&'a str> {
        self.tlvs().first_text(Tlv::SSL_CIPHER)
    }

    /// The algorithm that signed the proxy's certificate.
    pub fn signature_algorithm(&self) -> Option<&'a str> {
        self.tlvs().first_text(Tlv::SSL_SIG_ALG)
    }

    /// The algorithm of the key of the proxy's certificate.
    pub fn key_algorithm(&self) -> Option<&'a str> {
        self.tlvs().first_text(Tlv::SSL_KEY_ALG)
    }

    /// All vectors within it.
    pub fn tlvs(&self) -> Tlvs<'a> {
        Tlvs::new(self.tlvs)
    }
}
