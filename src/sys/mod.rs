//! The door to the operating system for everything that is not a driver.
//!
//! This is the one place outside `driver/` that makes system calls, and the one place where
//! `unsafe` is allowed at all: each block makes one claim and says why it holds. What a platform
//! lacks is one `cfg` on a module or an item, with an `Unsupported` error behind it; the layers
//! above have no `cfg` of their own for it.

#![allow(unsafe_code)]

use std::io;

pub(crate) mod affinity;
mod bind_port;
pub(crate) mod device;
pub(crate) mod foreign;
pub(crate) mod hang_up;
#[cfg(unix)]
pub(crate) mod inherit;
pub(crate) mod interface;
pub(crate) mod multicast;
pub(crate) mod pipe;
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
))]
mod raw_option;
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

/// What this platform, or this build, does not have; an answer of the system is none of these.
#[derive(Debug)]
struct NotHere(String);

impl std::fmt::Display for NotHere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotHere {}

/// The error of what this platform does not have: names both.
#[allow(dead_code, reason = "not where everything is there")]
pub(crate) fn unsupported(what: &str) -> io::Error {
    not_here(format!("{what} (not on {})", std::env::consts::OS))
}

/// The error of what is not there, for a reason that the message tells.
pub(crate) fn not_here(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, NotHere(message.into()))
}

/// Whether an error is one of these, and not an answer of the system.
pub(crate) fn is_not_here(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<NotHere>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_names_the_platform_and_is_no_answer_of_the_system() {
        let error = unsupported("an option");
        assert!(is_not_here(&error) && error.kind() == io::ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("an option") && text.contains(std::env::consts::OS), "{text}");
        assert!(!is_not_here(&io::ErrorKind::Unsupported.into()));
        let told = io::Error::new(io::ErrorKind::Unsupported, "by the system");
        assert!(!is_not_here(&told));
    }
}
