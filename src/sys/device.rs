//! Binding a socket to one network device: what comes and goes by another is not the socket's.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

use super::interface::Interface;

/// Binds the socket to the device. Before bind and connect.
///
/// # Errors
/// `AddrNotAvailable` if there is no such device, `PermissionDenied` if it takes a privilege,
/// `Unsupported` where the system has no such option.
pub(super) fn bind(socket: &Socket, device: &Interface, address: SocketAddr) -> io::Result<()> {
    platform::bind(socket, device, address).map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => HINT,
            _ => "",
        };
        let message = format!("cannot bind to the device {device}: {source}{hint}");
        io::Error::new(kind(&source), message)
    })
}

/// What ENODEV says has no kind in std.
fn kind(source: &io::Error) -> io::ErrorKind {
    match source.raw_os_error() {
        Some(NO_SUCH_DEVICE) => io::ErrorKind::AddrNotAvailable,
        _ => source.kind(),
    }
}

#[cfg(unix)]
const NO_SUCH_DEVICE: i32 = libc::ENODEV;
/// Never told: Windows has no such option.
#[cfg(not(unix))]
const NO_SUCH_DEVICE: i32 = i32::MIN;

#[cfg(any(target_os = "linux", target_os = "android"))]
const HINT: &str = " (before Linux 5.7, and to another device than the one it is bound to, this takes CAP_NET_RAW)";
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const HINT: &str = "";

#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use super::*;

    pub(super) fn bind(socket: &Socket, device: &Interface, _: SocketAddr) -> io::Result<()> {
        // By name in any case: the option by number takes one that nobody has. A name that is too
        // long would be cut, but it has no number.
        let name = super::super::interface::name_of(device.index()?)?;
        socket.bind_device(Some(&name))
    }
}

#[cfg(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris"))]
mod platform {
    use super::*;

    pub(super) fn bind(socket: &Socket, device: &Interface, at: SocketAddr) -> io::Result<()> {
        let index = std::num::NonZeroU32::new(device.index()?);
        match at {
            SocketAddr::V4(_) => socket.bind_device_by_index_v4(index),
            SocketAddr::V6(_) => socket.bind_device_by_index_v6(index),
        }
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "illumos",
    target_os = "solaris"
)))]
mod platform {
    use super::*;

    pub(super) fn bind(_: &Socket, _: &Interface, _: SocketAddr) -> io::Result<()> {
        let message = format!("{} has no option bind_device", std::env::consts::OS);
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }
}
