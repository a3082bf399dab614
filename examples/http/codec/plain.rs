//! A head as most clients send it, in one pass: `GET` of a path by HTTP/1.1, from a host with a name
//! or an IPv4 address. What the other lines say may be anything.
//!
//! Nothing is refused here and nothing waited for. A head that is not like this, or not whole, is
//! read from its beginning by `head.rs`, line by line; so this may know less than is read there, and
//! must never find something else in it. The tests and the fuzz target read heads both ways.

use super::fields::Fields;
use super::head::{Head, MAX_HEAD_BYTES, MAX_LINE_BYTES, Method};
use super::line::{Line, line_end, target_length};
use super::target::host_and_port_length;

/// Reads one, if that is what the bytes begin with.
#[inline(always)] // Once a request.
pub fn read_plain(bytes: &[u8]) -> Option<Head<'_>> {
    let window = bytes.get(..MAX_HEAD_BYTES).unwrap_or(bytes);
    let target = window.strip_prefix(b"GET ")?;
    let (path, rest) = target.split_at(target_length(target));
    let mut rest = rest.strip_prefix(b" HTTP/1.1\r\n")?;
    if !path.starts_with(b"/") || window.len() - rest.len() > MAX_LINE_BYTES {
        return None;
    }
    let mut fields = Fields::default();
    loop {
        if let Some(behind) = behind_host(rest) {
            fields.take_host().ok()?;
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(b"\r\n") {
            rest = behind;
            break;
        } else {
            rest = take_line(&mut fields, rest)?;
        }
    }
    Some(Head {
        length: window.len() - rest.len(),
        method: Method::Get,
        path,
        framing: fields.framing(false).ok()?,
        persistence: fields.persistence(false),
        expects_continue: fields.expects_continue(false),
    })
}

/// What is behind the line of the Host, if the bytes begin with that.
#[inline(always)] // Once a request.
fn behind_host(bytes: &[u8]) -> Option<&[u8]> {
    let value = bytes.strip_prefix(b"Host: ")?;
    value[host_and_port_length(value)?..].strip_prefix(b"\r\n")
}

/// Answers what is behind the line.
#[inline(never)]
fn take_line<'a>(fields: &mut Fields, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let Ok(Line::EndsAt(end)) = line_end(bytes, 0) else { return None };
    fields.take(&bytes[..end]).ok()?;
    Some(&bytes[end + 2..])
}
