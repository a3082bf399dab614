//! Memory for bytes on their way in and out of connections, and index-addressed storage.
//!
//! Everything here is owned by one event loop and does no I/O. An idle connection holds no buffer:
//! memory is borrowed from the loop's `Pool` while there are bytes, and given back with the last.
//!
//! ```text
//!  socket -> handler: what it leaves unconsumed -> Inbound  --.
//!                                                              >-- Pool (4, 16, 64, 256 KiB)
//!  handler -> Writer / append / append_bytes  ->  Outbound  --'
//! ```

pub(crate) mod inbound;
pub(crate) mod outbound;
pub(crate) mod pages;
pub(crate) mod pool;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
