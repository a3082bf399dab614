//! The door to the operating system for everything that is not a driver.
//!
//! This is the one place outside `driver/` that makes system calls, and the one place where
//! `unsafe` is allowed at all: each block makes one claim and says why it holds. What a platform
//! lacks is one `cfg` on a module or an item, with an `Unsupported` error behind it; the layers
//! above have no `cfg` of their own for it.

#![allow(unsafe_code)]

pub(crate) mod affinity;
mod bind_port;
pub(crate) mod device;
pub(crate) mod foreign;
pub(crate) mod hang_up;
#[cfg(unix)]
pub(crate) mod inherit;
pub(crate) mod interface;
pub(crate) mod multicast;
pub(crate) mod route;
pub(crate) mod send_queue;
pub(crate) mod socket;
pub(crate) mod sockopt;
pub(crate) mod transfer;
pub(crate) mod udp;
#[cfg(unix)]
pub(crate) mod unix;
#[cfg(not(unix))]
#[path = "unix_unsupported.rs"]
pub(crate) mod unix;
pub(crate) mod writer;
