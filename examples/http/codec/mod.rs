//! HTTP/1.1 as bytes: request heads and bodies, read where they lie, strictly as RFC 9112 has them.
//!
//! It knows no connection, no clock and no route, so any handler, test or fuzz target can use it:
//!
//! ```text
//! bytes --> HeadReader::read --> Head (method, path, framing, persistence)
//!                                  |
//!           BodyReader::read <-- Framing --> pieces of the body, without their chunks
//! ```
//!
//! Most heads are read in one pass (`plain.rs`), all others, and all that is refused, line by line
//! (`head.rs`).
//!
//! What is read does not depend on how the bytes were cut on their way: the same bytes end in the
//! same request or the same refusal. Where two parties could disagree about where a request ends,
//! which is what request smuggling lives on, it is refused.

mod body;
mod fields;
mod head;
mod line;
mod plain;
mod refusal;
mod target;

pub use body::BodyReader;
pub use fields::{Framing, Persistence};
pub use head::{Head, HeadReader, Method};
pub use refusal::Refusal;
