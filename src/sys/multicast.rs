//! Multicast: which groups a datagram socket hears, and how its own datagrams to groups leave.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{SockRef, Socket};

use super::interface::Interface;

#[path = "multicast/platform.rs"]
mod platform;

/// A multicast group to be joined: on which interface, and from whom.
///
/// ```
/// use std::net::{Ipv4Addr, Ipv6Addr};
/// use tightloop::Group;
///
/// let all_cameras = Group::from(Ipv4Addr::new(239, 1, 2, 3)).on("eth0");
/// let one_camera = Group::from(Ipv4Addr::new(232, 1, 2, 3)).source(Ipv4Addr::new(10, 0, 0, 7));
/// let neighbours = Group::from("ff02::fb".parse::<Ipv6Addr>().unwrap()).on(2);
/// # let _ = (all_cameras, one_camera, neighbours);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "it is joined when it is given to Multicast::join"]
pub struct Group {
    address: IpAddr,
    interface: Option<Interface>,
    source: Option<IpAddr>,
}

impl Group {
    /// The group with this address.
    pub fn new(address: impl Into<IpAddr>) -> Self {
        Group { address: address.into(), interface: None, source: None }
    }

    /// Hears what comes by this interface. Default: that of [`Multicast::interface`]; without
    /// one the system chooses, mostly where its default route leads. For IPv4, NetBSD, OpenBSD, illumos and
    /// Solaris know it by its address alone.
    pub fn on(mut self, interface: impl Into<Interface>) -> Self {
        self.interface = Some(interface.into());
        self
    }

    /// Hears this sender alone (source-specific multicast); a group may be joined for several. Linux,
    /// Android, macOS and FreeBSD; elsewhere IPv4 only, on an interface that is given by its
    /// address or not at all.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl From<IpAddr> for Group {
    fn from(address: IpAddr) -> Self {
        Group::new(address)
    }
}

impl From<Ipv4Addr> for Group {
    fn from(address: Ipv4Addr) -> Self {
        Group::new(address)
    }
}

impl From<Ipv6Addr> for Group {
    fn from(address: Ipv6Addr) -> Self {
        Group::new(address)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if let Some(source) = &self.source {
            write!(f, " from {source}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " on {interface}")?;
        }
        Ok(())
    }
}

/// What a datagram socket has to do with multicast: for
/// [`Server::listen_multicast`](crate::Server::listen_multicast) and
/// [`Connect::multicast`](crate::Connect::multicast).
///
/// What is not said stays as the system has it: datagrams to groups are heard on the same host too,
/// and go no further than the local network.
///
/// ```
/// use std::net::Ipv4Addr;
/// use tightloop::Multicast;
///
/// let multicast = Multicast::new()
///     .join(Ipv4Addr::new(239, 1, 2, 3))
///     .join(Ipv4Addr::new(239, 1, 2, 4))
///     .interface("eth0")
///     .loopback(false)
///     .hops(4);
/// # let _ = multicast;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[must_use = "it holds for a socket that it is given to"]
pub struct Multicast {
    groups: Vec<Group>,
    interface: Option<Interface>,
    loopback: Option<bool>,
    hops: Option<u8>,
}

impl Multicast {
    /// Joins nothing.
    pub fn new() -> Self {
        Multicast::default()
    }

    /// Joins this group, beside others. A socket has a limit of the system's (Linux: 20 groups,
    /// `net.ipv4.igmp_max_memberships`).
    pub fn join(mut self, group: impl Into<Group>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// The interface of groups that name none, and the one by which datagrams to groups leave.
    #[doc(alias = "WithMulticastInterfaceIndex")]
    #[doc(alias = "MulticastInterfaceIndex")]
    pub fn interface(mut self, interface: impl Into<Interface>) -> Self {
        self.interface = Some(interface.into());
        self
    }

    /// Whether what this socket sends to a group is heard by members on this host. Default: the
    /// system's, which is yes. On Windows it is the receiver's socket that decides.
    pub fn loopback(mut self, on: bool) -> Self {
        self.loopback = Some(on);
        self
    }

    /// How many routers a datagram to a group may pass, and one more (TTL of IPv4, hop limit of
    /// IPv6). Default: the system's, which is 1: it stays in the local network.
    #[doc(alias = "ttl")]
    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = Some(hops);
        self
    }

    /// Of a socket that is bound to `address`: where that is a group, it is joined too, if it is not
    /// already. A scope of the address tells the interface, where nothing nearer does.
    pub(crate) fn with_bound(mut self, address: SocketAddr) -> Self {
        let bound = address.ip();
        if !bound.is_multicast() {
            return self;
        }
        if !self.groups.iter().any(|group| group.address == bound) {
            self.groups.push(Group::new(bound));
        }
        if let SocketAddr::V6(v6) = address
            && v6.scope_id() != 0
        {
            let own = self.groups.iter_mut().filter(|group| group.address == bound);
            for group in own {
                group.interface.get_or_insert(Interface::Index(v6.scope_id()));
            }
        }
        self
    }

    /// Whether there are groups to be joined.
    pub(crate) fn joins(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Sets all of it on a datagram socket.
    ///
    /// # Errors
    /// `InvalidInput` for a group that is none, or of another family than the socket, each with a
    /// message that names the group; `AddrNotAvailable` for an interface that is not there;
    /// `Unsupported` for what the system lacks; the system's.
    pub(crate) fn apply(&self, socket: &SockRef<'_>, is_v6: bool) -> io::Result<()> {
        let only_v6 = is_v6 && socket.only_v6()?;
        // As IPv4 on a socket of both families.
        let takes_v4 = !is_v6 || (platform::DUAL_STACK_IS_V4_TOO && !only_v6);
        if self.joins() {
            platform::hear_joined_only(socket, takes_v4, is_v6).map_err(|source| {
                failed("cannot keep others' groups away (IP_MULTICAST_ALL)", &source)
            })?;
        }
        for group in &self.groups {
            let group = Group {
                interface: group.interface.as_ref().or(self.interface.as_ref()).cloned(),
                ..group.clone()
            };
            let joined = group.check(takes_v4, is_v6).and_then(|()| platform::join(socket, &group));
            joined.map_err(|source| failed(&format!("cannot join {group}"), &source))?;
        }
        if let Some(interface) = &self.interface {
            send_by(socket, interface, takes_v4, is_v6)
                .map_err(|source| failed(&format!("cannot send by {interface}"), &source))?;
        }
        if let Some(on) = self.loopback {
            on_each(takes_v4, is_v6, |v6| match v6 {
                false => socket.set_multicast_loop_v4(on),
                true => socket.set_multicast_loop_v6(on),
            })?;
        }
        let Some(hops) = self.hops.map(u32::from) else { return Ok(()) };
        on_each(takes_v4, is_v6, |v6| match v6 {
            false => socket.set_multicast_ttl_v4(hops),
            true => socket.set_multicast_hops_v6(hops),
        })
    }
}

impl Group {
    /// Refuses what cannot be meant, where the system would say EINVAL.
    fn check(&self, takes_v4: bool, takes_v6: bool) -> io::Result<()> {
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if !self.address.is_multicast() {
            return refused("it is no multicast address");
        }
        if self.address.is_ipv4() && !takes_v4 {
            return refused("the socket is one of IPv6, and the group of IPv4");
        }
        if self.address.is_ipv6() && !takes_v6 {
            return refused("the socket is one of IPv4, and the group of IPv6");
        }
        match self.source {
            Some(source) if source.is_ipv4() != self.address.is_ipv4() => {
                refused("the sender's address is of another family")
            }
            Some(source) if source.is_multicast() || source.is_unspecified() => {
                refused("the sender's address is not one of a host")
            }
            _ => Ok(()),
        }
    }
}

/// An interface that is named by an IPv4 address is no news for IPv6 where both are there.
fn send_by(
    socket: &Socket,
    interface: &Interface,
    takes_v4: bool,
    takes_v6: bool,
) -> io::Result<()> {
    if takes_v4 {
        match interface {
            Interface::Address(address) => socket.set_multicast_if_v4(address)?,
            other => platform::send_by_v4(socket, other.index()?)?,
        }
    }
    match interface {
        Interface::Address(_) if takes_v4 => Ok(()),
        other if takes_v6 => socket.set_multicast_if_v6(other.index()?),
        _ => Ok(()),
    }
}

/// Calls for each family that the socket has, IPv4 first.
fn on_each(v4: bool, v6: bool, mut set: impl FnMut(bool) -> io::Result<()>) -> io::Result<()> {
    if v4 {
        set(false)?;
    }
    if v6 { set(true) } else { Ok(()) }
}

fn failed(what: &str, source: &io::Error) -> io::Error {
    let kind = match platform::says_no_interface(source) {
        true => io::ErrorKind::AddrNotAvailable,
        false => source.kind(),
    };
    io::Error::new(kind, format!("{what}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_group_is_joined_once_and_by_its_scope() {
        let group: Ipv6Addr = "ff02::fb".parse().unwrap();
        let scoped: SocketAddr = "[ff02::fb%3]:5353".parse().unwrap();
        let by_scope = Group::new(group).on(3);
        assert_eq!(Multicast::new().with_bound(scoped), Multicast::new().join(by_scope.clone()));
        let joined = Multicast::new().join(group);
        assert_eq!(joined.with_bound(scoped), Multicast::new().join(by_scope));
        let elsewhere = Multicast::new().join(Group::new(group).on("eth7"));
        assert_eq!(elsewhere.clone().with_bound(scoped), elsewhere);
        let host = Multicast::new().with_bound("[::1]:5353".parse().unwrap());
        assert!(!host.joins());
    }

    #[test]
    fn a_group_is_written_with_its_sender_and_interface() {
        let group = Group::new(Ipv4Addr::new(232, 1, 2, 3)).on(2).source(Ipv4Addr::LOCALHOST);
        assert_eq!(group.to_string(), "232.1.2.3 from 127.0.0.1 on interface 2");
    }
}
