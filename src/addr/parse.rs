//! URL text to [`Endpoint`]: strict, without I/O, and with an error that says what to write instead.
//!
//! Strict, because what is let through here is interpreted by somebody else later: `127.1` by
//! getaddrinfo (as 127.0.0.1), `::1:80` by luck, a path by nobody.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use super::{Endpoint, Host, MAX_UNIX_PATH, Scope, Target, Transport};

/// The text of an address could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    input: String,
    fault: AddressFault,
}

impl AddressError {
    pub(super) fn new(input: &str, fault: AddressFault) -> Self {
        AddressError { input: input.to_owned(), fault }
    }

    /// The text as it was given.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// What is wrong with it.
    pub fn fault(&self) -> AddressFault {
        self.fault
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted with escapes: a line break in the text must not forge a line in a log.
        write!(formatter, "bad address {:?}: {}", self.input, self.fault)
    }
}

impl std::error::Error for AddressError {}

/// What is wrong with the text of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressFault {
    /// The text before `://` is none of the known schemes.
    UnknownScheme,
    /// There is no port after the host.
    MissingPort,
    /// The port is not a number from 0 to 65535.
    BadPort,
    /// A TCP or UDP address goes on with `/`.
    PathNotAllowed,
    /// A character that no host name has: white space, a control character, punctuation.
    ForbiddenCharacter(char),
    /// `*` for the host.
    Star,
    /// `[` without `]`, or one of them in the wrong place.
    UnbalancedBrackets,
    /// More than one `:` outside brackets: where the port begins is anybody's guess.
    UnbracketedIpv6,
    /// The host looks like an IPv4 address, but is none.
    BadIpv4,
    /// What stands in brackets is no IPv6 address.
    BadIpv6,
    /// The scope after `%` is neither a number nor the name of an interface.
    BadScope,
    /// The scheme asks for one family, the address is of the other.
    FamilyMismatch,
    /// Not a network: an IP address, or one with `/` and the length of the common prefix.
    BadNetwork,
    /// A network's address has bits behind the prefix.
    HostBits,
    /// `unix://` without a path.
    EmptyPath,
    /// The path of a Unix socket contains a NUL.
    PathHasNul,
    /// The path of a Unix socket does not fit into the system's structure.
    PathTooLong {
        /// Its length in bytes.
        length: usize,
        /// The most that this system takes, in bytes.
        limit: usize,
    },
}

impl fmt::Display for AddressFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            AddressFault::UnknownScheme => {
                "unknown scheme; known are tcp, tcp4, tcp6, udp, udp4, udp6, tls and unix"
            }
            AddressFault::MissingPort => "the port is missing; write host:port",
            AddressFault::BadPort => "the port is not a number from 0 to 65535",
            AddressFault::PathNotAllowed => "only unix:// has a path",
            AddressFault::ForbiddenCharacter(character) => {
                return write!(formatter, "a host has no character {character:?}");
            }
            AddressFault::Star => "for every interface leave the host empty, as in tcp://:80",
            AddressFault::UnbalancedBrackets => "the brackets around the IPv6 address do not match",
            AddressFault::UnbracketedIpv6 => {
                "more than one ':'; an IPv6 address stands in brackets, as in [::1]:80"
            }
            AddressFault::BadIpv4 => "not an IPv4 address of four numbers from 0 to 255",
            AddressFault::BadIpv6 => "not an IPv6 address in the brackets",
            AddressFault::BadScope => "after '%' comes the number or the name of an interface",
            AddressFault::FamilyMismatch => {
                "the scheme and the address are of different IP families"
            }
            AddressFault::BadNetwork => "not an IP network, as in 10.0.0.0/8, or an IP address",
            AddressFault::HostBits => "a network's address has only zeros behind its prefix",
            AddressFault::EmptyPath => "unix:// needs a path, as in unix:///run/app.sock",
            AddressFault::PathHasNul => "the path contains a NUL",
            AddressFault::PathTooLong { length, limit } => {
                return write!(
                    formatter,
                    "the path has {length} bytes, a Unix socket's has {limit} at most"
                );
            }
        })
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Endpoint, AddressError> {
        parse(text).map_err(|fault| AddressError::new(text, fault))
    }
}

fn parse(text: &str) -> Result<Endpoint, AddressFault> {
    let (transport, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (transport(scheme)?, rest),
        None => (Transport::Tcp, text),
    };
    let target = match transport {
        Transport::Unix => path_target(rest)?,
        _ => network_target(transport, rest)?,
    };
    Ok(Endpoint { transport, target })
}

fn transport(scheme: &str) -> Result<Transport, AddressFault> {
    Transport::ALL
        .into_iter()
        .find(|transport| transport.scheme().eq_ignore_ascii_case(scheme))
        .ok_or(AddressFault::UnknownScheme)
}

fn path_target(path: &str) -> Result<Target, AddressFault> {
    if path.is_empty() {
        return Err(AddressFault::EmptyPath);
    }
    if path.contains('\0') {
        return Err(AddressFault::PathHasNul);
    }
    if path.len() > MAX_UNIX_PATH {
        return Err(AddressFault::PathTooLong { length: path.len(), limit: MAX_UNIX_PATH });
    }
    Ok(Target::Path(Path::new(path).into()))
}

fn network_target(transport: Transport, text: &str) -> Result<Target, AddressFault> {
    let is_blank = |character: &char| character.is_whitespace() || character.is_control();
    if let Some(blank) = text.chars().find(is_blank) {
        return Err(AddressFault::ForbiddenCharacter(blank));
    }
    if text.contains('/') {
        return Err(AddressFault::PathNotAllowed);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed_host(bracketed)?,
        None => plain_host(text)?,
    };
    let is_of_family = match host {
        Host::V4(_) => transport.allows_ipv4(),
        Host::V6(..) => transport.allows_ipv6(),
        Host::Wildcard | Host::Name(_) => true,
    };
    if !is_of_family {
        return Err(AddressFault::FamilyMismatch);
    }
    Ok(Target::Network { host, port: parse_port(port)? })
}

/// `::1]:80`, the opening bracket already taken: the host and the text of the port.
fn bracketed_host(text: &str) -> Result<(Host, &str), AddressFault> {
    let (inside, after) = text.split_once(']').ok_or(AddressFault::UnbalancedBrackets)?;
    let port = match after.strip_prefix(':') {
        Some(port) => port,
        None if after.is_empty() => return Err(AddressFault::MissingPort),
        None => return Err(AddressFault::UnbalancedBrackets),
    };
    let (ip, scope) = match inside.split_once('%') {
        Some((ip, scope)) => (ip, parse_scope(scope)?),
        None => (inside, Scope::None),
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| AddressFault::BadIpv6)?;
    Ok((Host::V6(ip, scope), port))
}

fn plain_host(text: &str) -> Result<(Host, &str), AddressFault> {
    if text.contains(['[', ']']) {
        return Err(AddressFault::UnbalancedBrackets);
    }
    let (host, port) = text.split_once(':').ok_or(AddressFault::MissingPort)?;
    if port.contains(':') {
        return Err(AddressFault::UnbracketedIpv6);
    }
    if host.is_empty() {
        return Ok((Host::Wildcard, port));
    }
    if host == "*" {
        return Err(AddressFault::Star);
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok((Host::V4(ip), port));
    }
    let is_odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if let Some(odd) = host.chars().find(is_odd) {
        return Err(AddressFault::ForbiddenCharacter(odd));
    }
    if ends_in_number(host) {
        return Err(AddressFault::BadIpv4);
    }
    Ok((Host::Name(host.into()), port))
}

/// Whether getaddrinfo could take the name for one of the old spellings of an IPv4 address
/// (`127.1`, `0x7f000001`, `010.0.0.1`), which mean different addresses to different programs.
fn ends_in_number(host: &str) -> bool {
    let trimmed = host.strip_suffix('.').unwrap_or(host);
    let last = trimmed.rsplit('.').next().unwrap_or(trimmed);
    match last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn parse_port(text: &str) -> Result<u16, AddressFault> {
    if text.is_empty() {
        return Err(AddressFault::MissingPort);
    }
    parse_digits(text).and_then(|port| u16::try_from(port).ok()).ok_or(AddressFault::BadPort)
}

fn parse_scope(text: &str) -> Result<Scope, AddressFault> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match parse_digits(text).ok_or(AddressFault::BadScope)? {
            0 => Ok(Scope::None),
            index => Ok(Scope::Index(index)),
        };
    }
    let is_name = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'[');
    if !text.bytes().all(is_name) {
        return Err(AddressFault::BadScope);
    }
    Ok(Scope::Name(text.into()))
}

/// Digits only: `u32::from_str` alone would take `+80`.
fn parse_digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
