//! What systems do differently about multicast: interfaces by number for IPv4, single senders, and
//! what a socket hears that has joined nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use socket2::Socket;

use super::Group;
use crate::sys::interface::Interface;

pub(super) use hearing::hear_joined_only;
pub(super) use sending::send_by_v4;

/// Whether a socket of both families takes the options of IPv4.
pub(super) const DUAL_STACK_IS_V4_TOO: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Whether the system says that there is no such interface.
pub(super) fn says_no_interface(error: &io::Error) -> bool {
    #[cfg(unix)]
    let codes = [libc::ENODEV, libc::ENXIO];
    // WSAENOTSOCK is none of these: Windows says that the address is not available.
    #[cfg(not(unix))]
    let codes = [10_049];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Joins a group that was checked.
pub(super) fn join(socket: &Socket, group: &Group) -> io::Result<()> {
    let interface = group.interface.as_ref();
    match (group.address, group.source) {
        (IpAddr::V4(address), None) => match interface {
            None => socket.join_multicast_v4(&address, &Ipv4Addr::UNSPECIFIED),
            Some(Interface::Address(own)) => socket.join_multicast_v4(&address, own),
            Some(other) => by_index::join_v4(socket, address, other.index()?),
        },
        (IpAddr::V6(address), None) => {
            let index = interface.map_or(Ok(0), Interface::index)?;
            socket.join_multicast_v6(&address, index)
        }
        (_, Some(source)) => senders::join(socket, group.address, source, interface),
    }
}

#[cfg(not(any(
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "illumos",
    target_os = "solaris",
    target_os = "aix",
    target_os = "haiku"
)))]
mod by_index {
    use super::*;

    pub(super) fn join_v4(socket: &Socket, group: Ipv4Addr, index: u32) -> io::Result<()> {
        socket.join_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(index))
    }
}

#[cfg(any(
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "illumos",
    target_os = "solaris",
    target_os = "aix",
    target_os = "haiku"
))]
mod by_index {
    use super::*;

    pub(super) fn join_v4(_: &Socket, _: Ipv4Addr, _: u32) -> io::Result<()> {
        Err(by_address_only())
    }
}

/// For systems that know an interface of IPv4 by its address alone.
#[allow(dead_code, reason = "on some systems only")]
fn by_address_only() -> io::Error {
    crate::sys::unsupported("an interface of IPv4 by name or number: write its IPv4 address")
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
))]
mod senders {
    use std::mem::MaybeUninit;
    use std::net::SocketAddr;

    use socket2::SockAddr;

    use super::*;
    use crate::sys::raw_option;

    /// Joins by the one option that takes both families and a number.
    pub(super) fn join(
        socket: &Socket,
        group: IpAddr,
        source: IpAddr,
        interface: Option<&Interface>,
    ) -> io::Result<()> {
        if let (IpAddr::V4(group), IpAddr::V4(source), Some(Interface::Address(own))) =
            (group, source, interface)
        {
            return socket.join_ssm_v4(&source, &group, own);
        }
        let request = libc::group_source_req {
            gsr_interface: interface.map_or(Ok(0), Interface::index)?,
            gsr_group: storage(group),
            gsr_source: storage(source),
        };
        let level = if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
        raw_option::set(socket, level, libc::MCAST_JOIN_SOURCE_GROUP, request)
    }

    /// The address as the system writes it, without a port.
    fn storage(ip: IpAddr) -> libc::sockaddr_storage {
        let address = SockAddr::from(SocketAddr::new(ip, 0));
        let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        // SAFETY: both are valid for `len` bytes, as no address is longer than a storage, and they
        // do not overlap, as one is a local variable.
        unsafe {
            let to = storage.as_mut_ptr().cast::<u8>();
            address.as_ptr().cast::<u8>().copy_to_nonoverlapping(to, address.len() as usize);
        }
        // SAFETY: a storage is integers, for which zero is a value.
        unsafe { storage.assume_init() }
    }
}

#[cfg(any(windows, target_os = "illumos", target_os = "solaris", target_os = "aix"))]
mod senders {
    use super::*;

    pub(super) fn join(
        socket: &Socket,
        group: IpAddr,
        source: IpAddr,
        interface: Option<&Interface>,
    ) -> io::Result<()> {
        let own = match interface {
            None => Ipv4Addr::UNSPECIFIED,
            Some(Interface::Address(own)) => *own,
            Some(_) => return Err(by_address_only()),
        };
        match (group, source) {
            (IpAddr::V4(group), IpAddr::V4(source)) => socket.join_ssm_v4(&source, &group, &own),
            _ => Err(crate::sys::unsupported("a single sender of an IPv6 group")),
        }
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    windows,
    target_os = "illumos",
    target_os = "solaris",
    target_os = "aix"
)))]
mod senders {
    use super::*;

    pub(super) fn join(_: &Socket, _: IpAddr, _: IpAddr, _: Option<&Interface>) -> io::Result<()> {
        Err(crate::sys::unsupported("a single sender of a group"))
    }
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
))]
mod sending {
    use super::*;
    use crate::sys::raw_option;

    /// Datagrams to IPv4 groups leave by the interface with this number.
    pub(in super::super) fn send_by_v4(socket: &Socket, index: u32) -> io::Result<()> {
        let any = libc::in_addr { s_addr: 0 };
        let request =
            libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index as _ };
        raw_option::set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, request)
    }
}

#[cfg(windows)]
mod sending {
    use super::*;

    /// Windows takes a number for an address that begins with 0.
    pub(in super::super) fn send_by_v4(socket: &Socket, index: u32) -> io::Result<()> {
        socket.set_multicast_if_v4(&Ipv4Addr::from(index))
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    windows
)))]
mod sending {
    use super::*;

    pub(in super::super) fn send_by_v4(_: &Socket, _: u32) -> io::Result<()> {
        Err(by_address_only())
    }
}

#[cfg(target_os = "linux")]
mod hearing {
    use super::*;

    /// Linux gives a socket on all addresses what any program of the host has joined. Other systems
    /// give it what it has joined itself, and so is it here.
    pub(in super::super) fn hear_joined_only(
        socket: &Socket,
        v4: bool,
        v6: bool,
    ) -> io::Result<()> {
        if v4 {
            socket.set_multicast_all_v4(false)?;
        }
        match v6.then(|| socket.set_multicast_all_v6(false)) {
            // Before Linux 4.20 there is no such option.
            Some(Err(error)) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
            result => result.unwrap_or(Ok(())),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod hearing {
    use super::*;

    /// Other systems do so by themselves; Android may not, and has no way to it here.
    pub(in super::super) fn hear_joined_only(_: &Socket, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
}
