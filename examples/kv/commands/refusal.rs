//! What is said of a command that there is not.

use crate::args::Args;

/// The error of Redis, which shows the arguments' beginning.
pub fn unknown(args: Args<'_>) -> Vec<u8> {
    let mut rest = Vec::new();
    for arg in args.from(1) {
        if rest.len() >= SHOWN_BYTES {
            break;
        }
        rest.push(b'\'');
        rest.extend_from_slice(shown(arg, SHOWN_BYTES + 1 - rest.len()));
        rest.extend_from_slice(b"' ");
    }
    let name = shown(args.get(0), SHOWN_BYTES);
    [b"ERR unknown command '", name, b"', with args beginning with: ", &rest].concat()
}

/// Bytes of what a client sent that an error repeats.
const SHOWN_BYTES: usize = 128;

/// The beginning of an argument, up to a zero as in C.
fn shown(bytes: &[u8], most: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(most)];
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}
