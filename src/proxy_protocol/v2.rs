//! Version 2: sixteen bytes, the addresses, and type-length-value vectors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::crc32c::crc32c;
use super::error::{ProxyEncodeError, ProxyError};
use super::header::{ProxyHeader, Version};
use super::tlv::{self, Tlv, Tlvs};
use super::{Parsed, Stop};
use crate::addr::Address;

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;

/// The size of the address field of a Unix socket.
const UNIX: usize = 108;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    Ipv4,
    Ipv6,
    Unix,
}

impl Family {
    /// The bytes of both addresses, with their ports.
    fn length(self) -> usize {
        match self {
            Family::Unspecified => 0,
            Family::Ipv4 => 2 * (4 + 2),
            Family::Ipv6 => 2 * (16 + 2),
            Family::Unix => 2 * UNIX,
        }
    }
}

const UNSPECIFIED: u8 = 0;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

pub(super) fn parse(input: &[u8], max_header: usize) -> Result<Parsed, Stop> {
    let byte = |at: usize| input.get(at).copied().ok_or(Stop::Incomplete);
    let common = input.len().min(SIGNATURE.len());
    if input[..common] != SIGNATURE[..common] {
        return Err(ProxyError::NotAHeader.into());
    }
    let (version, command) = (byte(12)? >> 4, byte(12)? & 0xf);
    if version != 2 {
        return Err(ProxyError::UnknownVersion(version).into());
    }
    if command != LOCAL && command != PROXY {
        return Err(ProxyError::UnknownCommand(command).into());
    }
    // The specification has the family of LOCAL ignored, whatever it is.
    let (family, transport) = match family(byte(13)?) {
        Some(family) => family,
        None if command == LOCAL => (Family::Unspecified, UNSPECIFIED),
        None => return Err(ProxyError::UnknownFamily(byte(13)?).into()),
    };
    let length = usize::from(u16::from_be_bytes([byte(14)?, byte(15)?]));
    if FIXED + length > max_header {
        return Err(ProxyError::TooLong { length: FIXED + length, limit: max_header }.into());
    }
    let has_endpoints =
        command == PROXY && family != Family::Unspecified && transport != UNSPECIFIED;
    if has_endpoints && length < family.length() {
        return Err(ProxyError::TooShort { length }.into());
    }
    let header = input.get(..FIXED + length).ok_or(Stop::Incomplete)?;
    let (addresses, vectors) = header[FIXED..].split_at(family.length().min(length));
    let endpoints = if has_endpoints { Some(endpoints(family, addresses)?) } else { None };
    let vectors = match check(header, vectors) {
        Ok(()) => vectors,
        // What belongs to no known family is to be ignored: it may or may not be vectors.
        Err(ProxyError::MisplacedTlv | ProxyError::InvalidTlv(_)) if !has_endpoints => &[],
        Err(error) => return Err(error.into()),
    };
    let header = ProxyHeader {
        version: Version::V2,
        is_local: command == LOCAL,
        is_datagram: has_endpoints && transport == DATAGRAM,
        endpoints,
        tlvs: vectors.to_vec(),
    };
    Ok(Parsed::Header { header, length: FIXED + length })
}

/// Family and transport, `None` where one of them is none of the specification's.
fn family(byte: u8) -> Option<(Family, u8)> {
    let family = match byte >> 4 {
        0 => Family::Unspecified,
        1 => Family::Ipv4,
        2 => Family::Ipv6,
        3 => Family::Unix,
        _ => return None,
    };
    let transport = byte & 0xf;
    (transport <= DATAGRAM).then_some((family, transport))
}

/// Both addresses out of as many bytes as the family has.
fn endpoints(family: Family, bytes: &[u8]) -> Result<(Address, Address), ProxyError> {
    if family == Family::Unix {
        let (source, destination) = bytes.split_at(UNIX);
        return Ok((unix(source)?, unix(destination)?));
    }
    let (ips, ports) = bytes.split_at(bytes.len() - 4);
    let (source, destination) = ips.split_at(ips.len() / 2);
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let address = |ip: &[u8], port| Some(Address::from(SocketAddr::new(self::ip(ip)?, port)));
    // The family says the length, so there are addresses.
    let pair = address(source, port(0)).zip(address(destination, port(2)));
    pair.ok_or(ProxyError::TooShort { length: bytes.len() })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || bytes.try_into().ok().map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into());
    let v6 = || bytes.try_into().ok().map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into());
    v4().or_else(v6)
}

/// A field as in `sockaddr_un`: a path up to the first NUL, or without one. A field that begins
/// with a NUL is an unnamed socket, or has an abstract name, which an [`Address`] does not tell.
fn unix(field: &[u8]) -> Result<Address, ProxyError> {
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    match path(&field[..length]) {
        Some(path) => Ok(Address::Unix((length > 0).then(|| Arc::from(path)))),
        None => Err(ProxyError::InvalidAddress),
    }
}

#[cfg(unix)]
fn path(bytes: &[u8]) -> Option<&Path> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> Option<&Path> {
    std::str::from_utf8(bytes).ok().map(Path::new)
}

/// Looks at each of the `vectors`, which end the `header`.
fn check(header: &[u8], vectors: &[u8]) -> Result<(), ProxyError> {
    if !Tlvs::new(vectors).are_well_formed() {
        return Err(ProxyError::MisplacedTlv);
    }
    let mut has_checksum = false;
    for tlv in Tlvs::new(vectors) {
        let is_second = tlv.kind == Tlv::CRC32C && has_checksum;
        if is_second || !tlv::is_valid(tlv) {
            return Err(ProxyError::InvalidTlv(tlv.kind));
        }
        has_checksum |= tlv.kind == Tlv::CRC32C;
    }
    match checksum_at(header, vectors.len()) {
        Some(at) if header[at..at + 4] != checksum(header, at) => Err(ProxyError::ChecksumMismatch),
        _ => Ok(()),
    }
}

/// Where the value of the checksum is in a `header` that ends with `vectors` bytes of vectors.
fn checksum_at(header: &[u8], vectors: usize) -> Option<usize> {
    let mut at = header.len() - vectors;
    for tlv in Tlvs::new(&header[at..]) {
        if tlv.kind == Tlv::CRC32C {
            return Some(at + 3);
        }
        at += 3 + tlv.value.len();
    }
    None
}

/// The checksum of `header` with zeros in the place where it is itself.
fn checksum(header: &[u8], at: usize) -> [u8; 4] {
    crc32c(&[&header[..at], &[0; 4], &header[at + 4..]]).to_be_bytes()
}

pub(super) fn encode(header: &ProxyHeader) -> Result<Vec<u8>, ProxyEncodeError> {
    let transport = if header.is_datagram { DATAGRAM } else { STREAM };
    let mut bytes = SIGNATURE.to_vec();
    bytes.push(2 << 4 | if header.is_local { LOCAL } else { PROXY });
    let family = match &header.endpoints {
        None => UNSPECIFIED,
        Some((Address::Ip(a), Address::Ip(b))) if a.is_ipv4() && b.is_ipv4() => 1 << 4 | transport,
        Some((Address::Ip(_), Address::Ip(_))) => 2 << 4 | transport,
        Some((Address::Unix(_), Address::Unix(_))) => 3 << 4 | transport,
        Some(_) => return Err(ProxyEncodeError::MixedFamilies),
    };
    bytes.extend_from_slice(&[family, 0, 0]);
    match &header.endpoints {
        Some((Address::Ip(source), Address::Ip(destination))) => {
            append_ips(&mut bytes, *source, *destination);
        }
        Some((source, destination)) => {
            append_unix(&mut bytes, source.path())?;
            append_unix(&mut bytes, destination.path())?;
        }
        None => {}
    }
    bytes.extend_from_slice(&header.tlvs);
    let length = bytes.len() - FIXED;
    let length = u16::try_from(length).map_err(|_| ProxyEncodeError::TooLong(bytes.len()))?;
    bytes[FIXED - 2..FIXED].copy_from_slice(&length.to_be_bytes());
    if let Some(at) = checksum_at(&bytes, header.tlvs.len()) {
        let sum = checksum(&bytes, at);
        bytes[at..at + 4].copy_from_slice(&sum);
    }
    Ok(bytes)
}

fn append_ips(to: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    let is_ipv4 = source.is_ipv4() && destination.is_ipv4();
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) if is_ipv4 => to.extend_from_slice(&ip.octets()),
            IpAddr::V4(ip) => to.extend_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => to.extend_from_slice(&ip.octets()),
        }
    }
    to.extend_from_slice(&source.port().to_be_bytes());
    to.extend_from_slice(&destination.port().to_be_bytes());
}

fn append_unix(to: &mut Vec<u8>, path: Option<&Path>) -> Result<(), ProxyEncodeError> {
    let bytes = path.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes());
    if bytes.len() > UNIX || bytes.contains(&0) {
        return Err(ProxyEncodeError::InvalidPath);
    }
    to.extend_from_slice(bytes);
    to.resize(to.len() + UNIX - bytes.len(), 0);
    Ok(())
}
