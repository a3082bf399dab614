//! Version 1: one line of text. Read from left to right, so that what cannot become a header is
//! refused at the first byte that is wrong, however the bytes arrive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::ProxyError;
use super::header::{ProxyHeader, Version};
use super::{Parsed, Stop};
use crate::addr::Address;

/// The longest line, CRLF included.
pub(super) const MAX_LINE: usize = 107;

pub(super) const PREFIX: &[u8] = b"PROXY ";

/// The longest forms of an address in text. `::ffff:` and a dotted quad, which the specification
/// does not speak of, is how common senders write an IPv4 client of an IPv6 socket.
const MAX_IPV4: usize = "255.255.255.255".len();
const MAX_IPV6: usize = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".len();

pub(super) fn parse(input: &[u8]) -> Result<Parsed, Stop> {
    let mut line = Line { rest: input };
    line.take(PREFIX, ProxyError::NotAHeader)?;
    let (keyword, rest) = line.keyword()?;
    line.rest = rest;
    let endpoints = match keyword {
        Keyword::Tcp4 => Some(line.endpoints(MAX_IPV4, is_ipv4, ipv4)?),
        Keyword::Tcp6 => Some(line.endpoints(MAX_IPV6, is_ipv6, ipv6)?),
        Keyword::Unknown => {
            line.ignore(MAX_LINE - 2 - (input.len() - line.rest.len()))?;
            None
        }
    };
    line.take(b"\r\n", ProxyError::InvalidLineEnd)?;
    let header = ProxyHeader {
        version: Version::V1,
        is_local: false,
        is_datagram: false,
        endpoints,
        tlvs: Vec::new(),
    };
    Ok(Parsed::Header { header, length: input.len() - line.rest.len() })
}

#[derive(Clone, Copy)]
enum Keyword {
    Tcp4,
    Tcp6,
    Unknown,
}

const KEYWORDS: [(&[u8], Keyword); 3] =
    [(b"TCP4 ", Keyword::Tcp4), (b"TCP6 ", Keyword::Tcp6), (b"UNKNOWN", Keyword::Unknown)];

/// What is left of the line.
struct Line<'a> {
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    fn take(&mut self, text: &[u8], error: ProxyError) -> Result<(), Stop> {
        match self.rest.strip_prefix(text) {
            Some(rest) => self.rest = rest,
            None if text.starts_with(self.rest) => return Err(Stop::Incomplete),
            None => return Err(error.into()),
        }
        Ok(())
    }

    fn keyword(&self) -> Result<(Keyword, &'a [u8]), Stop> {
        for (text, keyword) in KEYWORDS {
            if let Some(rest) = self.rest.strip_prefix(text) {
                return Ok((keyword, rest));
            }
        }
        match KEYWORDS.iter().any(|(text, _)| text.starts_with(self.rest)) {
            true => Err(Stop::Incomplete),
            false => Err(ProxyError::UnknownProtocol.into()),
        }
    }

    /// Two addresses and two ports, up to the CR.
    fn endpoints(
        &mut self,
        longest: usize,
        is_part: fn(u8) -> bool,
        parse: fn(&str) -> Option<IpAddr>,
    ) -> Result<(Address, Address), Stop> {
        let mut address = || {
            let text = self.field(b' ', longest, is_part, ProxyError::InvalidAddress)?;
            parse(text).ok_or(Stop::Fault(ProxyError::InvalidAddress))
        };
        let (source, destination) = (address()?, address()?);
        let mut port = |end| {
            let text = self.field(end, 5, |byte| byte.is_ascii_digit(), ProxyError::InvalidPort)?;
            port(text).ok_or(Stop::Fault(ProxyError::InvalidPort))
        };
        let (source_port, destination_port) = (port(b' ')?, port(b'\r')?);
        Ok((
            SocketAddr::new(source, source_port).into(),
            SocketAddr::new(destination, destination_port).into(),
        ))
    }

    /// What stands before `end`. A space is stepped over, the CR is left: `take` takes it.
    fn field(
        &mut self,
        end: u8,
        longest: usize,
        is_part: fn(u8) -> bool,
        error: ProxyError,
    ) -> Result<&'a str, Stop> {
        let Some(length) = self.rest.iter().take(longest + 1).position(|byte| !is_part(*byte))
        else {
            let is_too_long = self.rest.len() > longest;
            return Err(if is_too_long { error.into() } else { Stop::Incomplete });
        };
        let (text, rest) = self.rest.split_at(length);
        match rest[0] {
            byte if byte != end && matches!(byte, b'\r' | b'\n') => {
                return Err(ProxyError::InvalidLineEnd.into());
            }
            byte if byte != end => return Err(error.into()),
            b'\r' => self.rest = rest,
            _ => self.rest = &rest[1..],
        }
        std::str::from_utf8(text).map_err(|_| error.into())
    }

    /// Behind `UNKNOWN`: nothing, or a space and anything, up to the CR, which is at most
    /// `longest` bytes away.
    fn ignore(&mut self, longest: usize) -> Result<(), Stop> {
        match self.rest.first() {
            None => return Err(Stop::Incomplete),
            Some(b' ' | b'\r') => {}
            Some(_) => return Err(ProxyError::UnknownProtocol.into()),
        }
        let mut bytes = self.rest.iter().take(longest + 1);
        match bytes.position(|byte| matches!(byte, b'\r' | b'\n')) {
            Some(at) => self.rest = &self.rest[at..],
            None if self.rest.len() > longest => return Err(ProxyError::LineTooLong.into()),
            None => return Err(Stop::Incomplete),
        }
        Ok(())
    }
}

fn is_ipv4(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

fn is_ipv6(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'
}

fn ipv4(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn ipv6(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Digits only, as the field let nothing else through.
fn port(text: &str) -> Option<u16> {
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| !has_leading_zero)
}

pub(super) fn encode(header: &ProxyHeader) -> Vec<u8> {
    let addresses = header.endpoints.as_ref().filter(|_| !header.is_datagram);
    let line = match addresses {
        Some((Address::Ip(source), Address::Ip(destination))) => {
            let is_ipv4 = source.is_ipv4() && destination.is_ipv4();
            let text = |ip| if is_ipv4 { format!("{ip}") } else { ipv6_text(ip) };
            format!(
                "PROXY {} {} {} {} {}\r\n",
                if is_ipv4 { "TCP4" } else { "TCP6" },
                text(source.ip()),
                text(destination.ip()),
                source.port(),
                destination.port()
            )
        }
        _ => "PROXY UNKNOWN\r\n".into(),
    };
    line.into_bytes()
}

/// In hexadecimal groups only: a receiver need not know any other form.
fn ipv6_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(ip) => ip.to_string(),
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets().map(u16::from);
            format!("::ffff:{:x}:{:x}", a << 8 | b, c << 8 | d)
        }
    }
}
