//! Network interfaces: how users name one, and the number of a name.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;

pub(crate) use platform::index_of;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use platform::name_of;

/// A network interface, for multicast groups ([`Group`](crate::Group),
/// [`Multicast`](crate::Multicast)) and for [`bind_device`](crate::Server::bind_device).
///
/// Whether there is one is found out when it is used.
///
/// ```
/// # use std::net::Ipv4Addr;
/// # use tightloop::Interface;
/// assert_eq!(Interface::from("eth0"), Interface::Name("eth0".to_owned()));
/// assert_eq!(Interface::from(2), Interface::Index(2));
/// assert_eq!(Interface::from(Ipv4Addr::LOCALHOST).to_string(), "127.0.0.1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interface {
    /// By its number, as `ip link` shows it; from 1.
    Index(u32),
    /// By its name. Not on Windows, which has other names for programs than for people.
    Name(String),
    /// The one that has this IPv4 address. For IPv4 groups only.
    Address(Ipv4Addr),
}

impl Interface {
    /// The interface's number.
    ///
    /// # Errors
    /// `AddrNotAvailable` if there is none of the name; `InvalidInput` for 0, which to the system
    /// means any, and for an address.
    pub(crate) fn index(&self) -> io::Result<u32> {
        let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        match self {
            Interface::Index(0) => refused("no network interface has the number 0".to_owned()),
            Interface::Index(index) => Ok(*index),
            Interface::Name(name) => index_of(name),
            Interface::Address(ip) => {
                refused(format!("write the network interface's name or number, not {ip}"))
            }
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interface::Index(index) => write!(f, "interface {index}"),
            Interface::Name(name) => f.write_str(name),
            Interface::Address(ip) => ip.fmt(f),
        }
    }
}

impl From<u32> for Interface {
    fn from(index: u32) -> Self {
        Interface::Index(index)
    }
}

impl From<&str> for Interface {
    fn from(name: &str) -> Self {
        Interface::Name(name.to_owned())
    }
}

impl From<String> for Interface {
    fn from(name: String) -> Self {
        Interface::Name(name)
    }
}

impl From<Ipv4Addr> for Interface {
    fn from(address: Ipv4Addr) -> Self {
        Interface::Address(address)
    }
}

#[cfg(unix)]
mod platform {
    use std::ffi::CString;
    use std::io;

    /// The index of the interface called `name`.
    pub(crate) fn index_of(name: &str) -> io::Result<u32> {
        let text = CString::new(name)?;
        // SAFETY: `text` is a NUL-terminated string that lives until the call returns.
        let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
        if index == 0 {
            let source = io::Error::last_os_error();
            let message = format!("no network interface \"{name}\": {source}");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
        }
        Ok(index)
    }

    /// The name of the interface with this number.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(in super::super) fn name_of(index: u32) -> io::Result<Vec<u8>> {
        let mut name = [0_u8; libc::IF_NAMESIZE];
        // SAFETY: `name` has the room that the call may use, IF_NAMESIZE bytes.
        let result = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
        if result.is_null() {
            let source = io::Error::last_os_error();
            let message = format!("no network interface has the number {index}: {source}");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
        }
        Ok(name.into_iter().take_while(|byte| *byte != 0).collect())
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;

    /// The index of the interface called `name`: not known here.
    pub(crate) fn index_of(name: &str) -> io::Result<u32> {
        let message = format!("write the number of the interface \"{name}\", not its name");
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_a_number_and_an_unknown_one_an_error_with_its_name() {
        assert!(index_of("lo").unwrap() > 0);
        let error = index_of("no-such-iface").unwrap_err();
        assert!(error.to_string().contains("no-such-iface"), "{error}");
        assert!(index_of("nul\0inside").is_err());
    }
}
