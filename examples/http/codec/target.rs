//! Whom a request is for: the four forms of a target, and the host.

use super::head::Method;
use super::line::{digits_length, host_length, target_length};
use super::refusal::Refusal;

const MAX_PORT_DIGITS: usize = 5;

/// Checks a target against its method, and answers its path, with the query: where it begins, as
/// the target may have the host before it. `OPTIONS *` has the path `*`, CONNECT that of its host.
#[inline]
pub fn path_start(method: Method, target: &[u8]) -> Result<usize, Refusal> {
    if target_length(target) < target.len() {
        return Err(Refusal::bad("the target has a character that no target has"));
    }
    match (method, target) {
        (Method::Connect, _) => connect_target(target),
        (_, [b'/', ..]) => Ok(0),
        (Method::Options, b"*") => Ok(0),
        _ => absolute(target),
    }
}

fn connect_target(target: &[u8]) -> Result<usize, Refusal> {
    let has_port = target.rsplit(|byte| *byte == b':').next().is_some_and(|port| !port.is_empty());
    match has_port && target.contains(&b':') && is_authority(target) {
        true => Ok(0),
        false => Err(Refusal::bad("the target of CONNECT is no host and port")),
    }
}

/// `http://host/path`, as it is sent to a proxy; servers have to take it too.
fn absolute(target: &[u8]) -> Result<usize, Refusal> {
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    let start = scheme.ok_or(Refusal::bad("the target is no path"))?.len();
    let rest = &target[start..];
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if !is_authority(&rest[..length]) {
        return Err(Refusal::bad("the target's host is none"));
    }
    Ok(start + length)
}

/// Checks the value of a Host header.
#[inline]
pub fn check_host(value: &[u8]) -> Result<(), Refusal> {
    match is_authority(value) {
        true => Ok(()),
        false => Err(Refusal::bad("the Host is none")),
    }
}

/// A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port. No user: that is
/// how one host is made to look like another.
#[inline]
fn is_authority(text: &[u8]) -> bool {
    host_and_port_length(text) == Some(text.len()) || is_bracketed(text)
}

/// The length of a name or an IPv4 address, perhaps with a port, at the start.
#[inline]
pub fn host_and_port_length(text: &[u8]) -> Option<usize> {
    let host = host_length(text);
    let port = match text.get(host) {
        Some(b':') => 1 + digits_length(&text[host + 1..]),
        _ => 0,
    };
    (host > 0 && port <= 1 + MAX_PORT_DIGITS).then_some(host + port)
}

#[cold]
fn is_bracketed(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"[") else { return false };
    match rest.iter().position(|byte| *byte == b']') {
        Some(end) => is_address(&rest[..end]) && is_port(&rest[end + 1..]),
        None => false,
    }
}

fn is_address(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// With its colon, or nothing.
#[inline]
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= MAX_PORT_DIGITS && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}
