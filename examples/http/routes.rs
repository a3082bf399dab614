//! What there is to be asked for, and by which methods.

use crate::answers::Page;
use crate::codec::Method;

/// The longest answer of `/bytes/N`.
const MAX_BYTES: u64 = 1 << 30;

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Page(Page),
    /// The request's body is sent back.
    Echo,
    /// So many bytes of a pattern.
    Bytes(u64),
}

/// Finds it; `path` has the query still, which nothing here looks at.
#[inline]
pub fn route(method: Method, path: &[u8]) -> Route {
    match (method, resource(path)) {
        (Method::Get | Method::Head, Some(found @ (Route::Page(_) | Route::Bytes(_)))) => found,
        (Method::Post, Some(Route::Echo)) => Route::Echo,
        (method, found) => Route::Page(refusal(method, found)),
    }
}

#[inline]
fn resource(path: &[u8]) -> Option<Route> {
    let length = path.iter().position(|byte| *byte == b'?').unwrap_or(path.len());
    match &path[..length] {
        // `http://host` has no path, and `OPTIONS *` asks about the whole server.
        b"/" | b"/plaintext" | b"" | b"*" => Some(Route::Page(Page::Hello)),
        b"/json" => Some(Route::Page(Page::Json)),
        b"/echo" => Some(Route::Echo),
        path => bytes(path.strip_prefix(b"/bytes/")?).map(Route::Bytes),
    }
}

/// Digits only, without zeros before them: a resource has one name.
fn bytes(number: &[u8]) -> Option<u64> {
    if !number.iter().all(u8::is_ascii_digit) || (number.starts_with(b"0") && number != b"0") {
        return None;
    }
    let number = str::from_utf8(number).ok()?.parse().ok()?;
    (number <= MAX_BYTES).then_some(number)
}

#[cold]
fn refusal(method: Method, found: Option<Route>) -> Page {
    match (method, found) {
        (Method::Unknown | Method::Connect, _) => Page::UnknownMethod,
        (_, None) => Page::NotFound,
        (Method::Options, Some(Route::Echo)) => Page::EchoOptions,
        (Method::Options, Some(_)) => Page::Options,
        (_, Some(Route::Echo)) => Page::EchoBadMethod,
        (_, Some(_)) => Page::BadMethod,
    }
}
