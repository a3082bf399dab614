//! What a service of systemd tells it: [`Notifier`] speaks the protocol of sd_notify(3), and
//! [`watchdog_interval`] says how often. Sockets that systemd has bound come by
//! [`Inherited::take`](crate::Inherited::take).
//!
//! It is a datagram of text to a Unix socket, so it needs neither systemd's library nor systemd
//! itself: where `NOTIFY_SOCKET` is not set there is no notifier. The example `hot_restart` is a
//! whole service, with its unit file. On Unix systems.

use std::env;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::sys::inherit::monotonic_microseconds;

/// Tells the service manager how the service is doing. Any thread may do so; no call blocks for
/// longer than the manager's socket is full.
///
/// ```no_run
/// use tightloop::systemd::Notifier;
///
/// # fn main() -> std::io::Result<()> {
/// let notifier = Notifier::from_env()?;
/// // Once the server has started:
/// if let Some(notifier) = &notifier {
///     notifier.ready()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notifier {
    /// A notifier for the socket that `NOTIFY_SOCKET` names, by its path or, with `@` in front, by
    /// its abstract name (Linux). `None` where the variable is not set: nobody wants to know.
    ///
    /// # Errors
    /// `Unsupported` if it names a vsock, by which the manager of a virtual machine tells its host;
    /// `InvalidInput` if it is none of all these, or is too long for an address.
    pub fn from_env() -> io::Result<Option<Notifier>> {
        match env::var_os("NOTIFY_SOCKET") {
            Some(name) => Notifier::to(name.as_encoded_bytes()).map(Some),
            None => Ok(None),
        }
    }

    fn to(name: &[u8]) -> io::Result<Notifier> {
        let refuse = |kind, why: &str| {
            let message = format!("NOTIFY_SOCKET ({}) {why}", name.escape_ascii());
            io::Error::new(kind, message)
        };
        let manager = match name {
            [b'/', _, ..] => {
                use std::os::unix::ffi::OsStrExt;
                SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))
            }
            [b'@', name @ ..] if !name.is_empty() => abstract_address(name),
            [b'v', b's', b'o', b'c', b'k', b':' | b'-', ..] => {
                return Err(refuse(io::ErrorKind::Unsupported, "is a vsock"));
            }
            _ => {
                let why = "is neither an absolute path nor an abstract name";
                return Err(refuse(io::ErrorKind::InvalidInput, why));
            }
        };
        let manager = manager.map_err(|error| refuse(error.kind(), &error.to_string()))?;
        Ok(Notifier { socket: UnixDatagram::unbound()?, manager })
    }

    /// The service serves, or has loaded its configuration anew.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// The service loads its configuration, or restarts itself: until `ready`, or until
    /// [`main_pid`](Notifier::main_pid) says who is. With the present moment, as `Type=notify-reload`
    /// wants it.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn reloading(&self) -> io::Result<()> {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()?))
    }

    /// The service is about to end.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    /// The service lives: to be told more often than every [`watchdog_interval`].
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn watchdog(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }

    /// Another process of the service is the main one from now on, and is ready. Told by the one that
    /// was, so that `NotifyAccess=main` is enough; it then has no more to tell.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn main_pid(&self, pid: u32) -> io::Result<()> {
        self.send(&format!("MAINPID={pid}\nREADY=1"))
    }

    /// What `systemctl status` shows. Line breaks become spaces.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn status(&self, text: &str) -> io::Result<()> {
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")))
    }

    /// Sends assignments, one a line, as sd_notify(3) lists them.
    ///
    /// # Errors
    /// The system's, such as that the manager has gone.
    pub fn send(&self, assignments: &str) -> io::Result<()> {
        self.socket.send_to_addr(assignments.as_bytes(), &self.manager).map(drop)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    let message = "abstract names of Unix sockets exist on Linux only";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// How long the manager waits for [`Notifier::watchdog`] before it takes the service for hung
/// (`WATCHDOG_USEC`, where `WATCHDOG_PID` is this process or not set); half of it is a good period
/// for a ticker. `None` where it does not watch, or where the variables are no numbers.
///
/// ```
/// # use std::time::Duration;
/// use tightloop::systemd::{Notifier, watchdog_interval};
///
/// /// What `on_tick` of one loop may do: a loop that hangs does not.
/// fn feed(notifier: &Notifier) -> Option<Duration> {
///     let interval = watchdog_interval()?;
///     if let Err(error) = notifier.watchdog() {
///         eprintln!("systemd does not hear: {error}");
///     }
///     Some(interval / 2)
/// }
/// ```
pub fn watchdog_interval() -> Option<Duration> {
    let [interval, pid] = ["WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| env::var(name).ok());
    interval_of(interval.as_deref(), pid.as_deref(), std::process::id())
}

fn interval_of(interval: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let microseconds: u64 = interval.filter(|_| is_ours)?.parse().ok()?;
    // The greatest number is systemd's word for never.
    let is_time = microseconds != 0 && microseconds != u64::MAX;
    is_time.then_some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_is_named_or_for_any() {
        let second = Some(Duration::from_secs(1));
        for (interval, pid, expected) in [
            (Some("1000000"), None, second),
            (Some("1000000"), Some("7"), second),
            (Some("1000000"), Some("8"), None),
            (Some("1000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("18446744073709551615"), None, None),
            (Some("18446744073709551616"), None, None),
            (Some("-1"), None, None),
            (Some(""), None, None),
            (None, Some("7"), None),
        ] {
            assert_eq!(interval_of(interval, pid, 7), expected, "{interval:?} {pid:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_socket_is_refused() {
        for (name, kind) in [
            ("", io::ErrorKind::InvalidInput),
            ("relative", io::ErrorKind::InvalidInput),
            ("/", io::ErrorKind::InvalidInput),
            ("@", io::ErrorKind::InvalidInput),
            ("vsock:2:9", io::ErrorKind::Unsupported),
            ("vsock-stream:2:9", io::ErrorKind::Unsupported),
        ] {
            let error = Notifier::to(name.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert!(error.to_string().contains("NOTIFY_SOCKET"), "{error}");
        }
        for first in ["/", "@"] {
            let long = format!("{first}{}", "x".repeat(200));
            let error = Notifier::to(long.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("NOTIFY_SOCKET"), "{error}");
        }
    }
}
