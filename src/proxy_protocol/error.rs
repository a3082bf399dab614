//! What can be wrong with a header: [`ProxyError`] with one that came, [`ProxyEncodeError`] with
//! one that is to be sent.

use std::fmt;

use super::tlv::Tlv;

/// Why what a peer sent is no header of the PROXY protocol that may be believed.
///
/// The connection is to be ended: without the header nobody knows where the stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// The first bytes are those of neither version.
    NotAHeader,
    /// The stream ended within the header.
    Incomplete,
    /// The peer is not one whose header is believed: it is outside the trusted networks.
    Untrusted,
    /// Version 1: the word behind `PROXY` is none of `TCP4`, `TCP6` and `UNKNOWN`.
    UnknownProtocol,
    /// Version 1: an address is not written as the protocol's word demands.
    InvalidAddress,
    /// Version 1: a port is no number from 0 to 65535 without leading zeros.
    InvalidPort,
    /// Version 1: a CR or an LF that is not part of the CRLF at the end.
    InvalidLineEnd,
    /// Version 1: there is no CRLF in the first 107 bytes.
    LineTooLong,
    /// Version 2: the version behind the signature is another one.
    UnknownVersion(u8),
    /// Version 2: the command is neither `LOCAL` nor `PROXY`.
    UnknownCommand(u8),
    /// Version 2: the byte for family and transport is none of the specification's.
    UnknownFamily(u8),
    /// Version 2: the announced length has no room for the family's addresses.
    TooShort {
        /// The announced length, in bytes behind the first 16.
        length: usize,
    },
    /// Version 2: the header is longer than the receiver's limit.
    TooLong {
        /// The length of the whole header, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Version 2: the TLVs do not end where the header does.
    MisplacedTlv,
    /// Version 2: a value that a TLV of this type cannot have, or a second checksum.
    InvalidTlv(u8),
    /// Version 2: the checksum is not that of the header.
    ChecksumMismatch,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::NotAHeader => f.write_str("there is no PROXY header"),
            ProxyError::Incomplete => f.write_str("the stream ended within the PROXY header"),
            ProxyError::Untrusted => f.write_str("the peer is outside the trusted networks"),
            ProxyError::UnknownProtocol => f.write_str("neither TCP4, TCP6 nor UNKNOWN"),
            ProxyError::InvalidAddress => f.write_str("an address is not well-formed"),
            ProxyError::InvalidPort => f.write_str("a port is not well-formed"),
            ProxyError::InvalidLineEnd => f.write_str("a CR or LF outside the final CRLF"),
            ProxyError::LineTooLong => f.write_str("no CRLF in the first 107 bytes"),
            ProxyError::UnknownVersion(version) => write!(f, "unknown version {version}"),
            ProxyError::UnknownCommand(command) => write!(f, "unknown command {command}"),
            ProxyError::UnknownFamily(byte) => {
                write!(f, "unknown family and transport {byte:#04x}")
            }
            ProxyError::TooShort { length } => {
                write!(f, "{length} bytes have no room for the addresses")
            }
            ProxyError::TooLong { length, limit } => {
                write!(f, "a header of {length} bytes is above the limit of {limit}")
            }
            ProxyError::MisplacedTlv => f.write_str("the TLVs do not end with the header"),
            ProxyError::InvalidTlv(kind) => write!(f, "invalid TLV of type {kind:#04x}"),
            ProxyError::ChecksumMismatch => f.write_str("the checksum does not match"),
        }
    }
}

impl std::error::Error for ProxyError {}

/// Why a header cannot be sent as it was described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyEncodeError {
    /// Version 1 has no TLVs.
    NotInVersion1,
    /// One address is of the IP family and the other a Unix socket's.
    MixedFamilies,
    /// The path of a Unix socket is longer than 108 bytes, or has a NUL in it.
    InvalidPath,
    /// A TLV of this type cannot have that value: it is longer than the type allows, its parts are
    /// not well-formed, or it is a checksum, which [`with_crc32c`] adds.
    ///
    /// [`with_crc32c`]: super::ProxyHeader::with_crc32c
    InvalidTlv(u8),
    /// The addresses and TLVs together are longer than a header can be; their length in bytes.
    TooLong(usize),
}

impl fmt::Display for ProxyEncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyEncodeError::NotInVersion1 => f.write_str("version 1 has no TLVs"),
            ProxyEncodeError::MixedFamilies => {
                f.write_str("an IP address together with a Unix socket")
            }
            ProxyEncodeError::InvalidPath => {
                f.write_str("a path with a NUL or longer than 108 bytes")
            }
            ProxyEncodeError::InvalidTlv(Tlv::CRC32C) => {
                f.write_str("a checksum is computed, not given")
            }
            ProxyEncodeError::InvalidTlv(kind) => write!(f, "invalid TLV of type {kind:#04x}"),
            ProxyEncodeError::TooLong(length) => {
                write!(f, "{length} bytes are more than a header can hold")
            }
        }
    }
}

impl std::error::Error for ProxyEncodeError {}
