//! Linux, Android and Apple: recvmsg and sendmsg with one control message, which holds the local
//! address (`in_pktinfo`, `in6_pktinfo`).
//!
//! INVARIANT H: a `msghdr` made here points to an iovec and, if at all, to a `Control`, both
//! locals of the function that makes the system call, which live until it has read the header.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{SockAddr, Socket};

use super::Received;
use crate::sys::raw_option;

/// Room for one control message, of 40 bytes at most.
const CONTROL_LENGTH: usize = 64;

// SAFETY: CMSG_SPACE only computes.
const _: () = assert!(unsafe { libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32) } <= 64);

/// A control buffer, aligned as the headers in it must be.
#[repr(C)]
struct Control {
    _alignment: [libc::cmsghdr; 0],
    bytes: [u8; CONTROL_LENGTH],
}

impl Control {
    fn new() -> Control {
        Control { _alignment: [], bytes: [0; CONTROL_LENGTH] }
    }
}

pub(super) fn enable_local_address(socket: &Socket, is_v6: bool) -> io::Result<()> {
    let (level, option) = if is_v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    raw_option::set(socket, level, option, on)
}

pub(super) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    bound: SocketAddr,
    want_local: bool,
) -> io::Result<Received> {
    let mut control = Control::new();
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = empty_header();
    header.msg_iov = &mut slice;
    header.msg_iovlen = 1;
    if want_local {
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = CONTROL_LENGTH as _;
    }
    let (length, peer) = receive_message(socket, &mut header)?;
    // SAFETY: INVARIANT H, and recvmsg has set the length of the control data.
    let local_ip = unsafe { told_address(&header) };
    Ok(Received {
        length,
        peer,
        local: local_ip.map_or(bound, |ip| ip.with_port(bound.port())),
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    })
}

pub(super) fn send_from(
    socket: &Socket,
    bytes: &[u8],
    target: SocketAddr,
    from: IpAddr,
) -> io::Result<usize> {
    if target.is_ipv6() && from.is_ipv4() && cfg!(target_vendor = "apple") {
        // Not known to be taken there; the system's choice is better than an error.
        return socket.send_to(bytes, &target.into());
    }
    let address = SockAddr::from(target);
    let mut control = Control::new();
    // The kernel only reads what the two pointers lead to; the C type has no const.
    let mut slice =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = empty_header();
    header.msg_name = address.as_ptr().cast_mut().cast();
    header.msg_namelen = address.len();
    header.msg_iov = &mut slice;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_LENGTH as _;
    match (target, from) {
        (SocketAddr::V4(_), IpAddr::V4(ip)) => {
            // SAFETY: INVARIANT H, and `in_pktinfo` is plain data.
            unsafe { put_control(&mut header, libc::IPPROTO_IP, libc::IP_PKTINFO, info_v4(ip)) }
        }
        (_, ip) => {
            let info = info_v6(to_ipv6(ip));
            // SAFETY: INVARIANT H, and `in6_pktinfo` is plain data.
            unsafe { put_control(&mut header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info) }
        }
    }
    // SAFETY: INVARIANT H; name, slice and control live until the end of this function.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn receive_message(socket: &Socket, header: &mut libc::msghdr) -> io::Result<(usize, SocketAddr)> {
    let call = |storage: *mut socket2::SockAddrStorage, name_length: *mut libc::socklen_t| {
        header.msg_name = storage.cast();
        // SAFETY: try_init gives two valid pointers, the second to the size of the first's target.
        header.msg_namelen = unsafe { *name_length };
        // SAFETY: INVARIANT H, and the name is set above.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), header, libc::MSG_DONTWAIT) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: as above.
        unsafe { *name_length = header.msg_namelen };
        // The name dies with the closure's caller.
        header.msg_name = ptr::null_mut();
        Ok(length)
    };
    // SAFETY: recvmsg writes an address into the storage, and `call` passes on its length.
    let (length, peer) = unsafe { SockAddr::try_init(call) }?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((length, peer))
}

/// A local address as the kernel tells it, without the port, which it does not tell.
pub(super) enum ToldAddress {
    V4(Ipv4Addr),
    V6(Ipv6Addr, u32),
}

impl ToldAddress {
    /// For a datagram to a broadcast address it is the interface's own address that Linux gives
    /// beside, from which an answer can be sent. Apple leaves that field empty. A group is told as such,
    /// as with IPv6: whoever has joined several wants to know which.
    pub(super) fn v4(own: [u8; 4], destination: [u8; 4]) -> ToldAddress {
        let (own, destination) = (Ipv4Addr::from(own), Ipv4Addr::from(destination));
        let tells_destination = own.is_unspecified() || destination.is_multicast();
        ToldAddress::V4(if tells_destination { destination } else { own })
    }

    pub(super) fn with_port(&self, port: u16) -> SocketAddr {
        match *self {
            ToldAddress::V4(ip) => SocketAddr::from((ip, port)),
            ToldAddress::V6(ip, interface) => {
                let is_scoped = ip.is_unicast_link_local() || ip.is_multicast();
                let scope_id = if is_scoped { interface } else { 0 };
                SocketAddrV6::new(ip, port, 0, scope_id).into()
            }
        }
    }
}

/// # Safety
/// Control pointer and length of `header` must describe control messages as recvmsg leaves them,
/// or be null and 0.
unsafe fn told_address(header: &libc::msghdr) -> Option<ToldAddress> {
    // SAFETY: the caller's promise.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: the macros give null or a whole, aligned header within the control data.
        let message = unsafe { *next };
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: `next` is a header of this control data, and such a message's data
                // is an `in_pktinfo`.
                let info: libc::in_pktinfo = unsafe { data_of(next) }?;
                let destination = info.ipi_addr.s_addr.to_ne_bytes();
                return Some(ToldAddress::v4(info.ipi_spec_dst.s_addr.to_ne_bytes(), destination));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: `next` is a header of this control data, and such a message's data
                // is an `in6_pktinfo`.
                let info: libc::in6_pktinfo = unsafe { data_of(next) }?;
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                return Some(ToldAddress::V6(ip, info.ipi6_ifindex as _));
            }
            // SAFETY: `next` came from the macros over this header.
            _ => next = unsafe { libc::CMSG_NXTHDR(header, next) },
        }
    }
    None
}

/// The data of a message, `None` if it was cut because the control buffer was full.
///
/// # Safety
/// `message` must lead to a header in control data that recvmsg has written, with a `T` as its data.
unsafe fn data_of<T: Copy>(message: *const libc::cmsghdr) -> Option<T> {
    // SAFETY: CMSG_LEN only computes.
    let whole = unsafe { libc::CMSG_LEN(size_of::<T>() as u32) };
    // SAFETY: the caller's promise.
    if unsafe { (*message).cmsg_len } < whole as _ {
        return None;
    }
    // SAFETY: the data follows the header, by the caller's promise; CMSG_DATA only adds.
    let data = unsafe { libc::CMSG_DATA(message) };
    // SAFETY: the length was checked; the data of a message need not be aligned for `T`.
    Some(unsafe { data.cast::<T>().read_unaligned() })
}

/// Writes the one control message and sets the control length to its size.
///
/// # Safety
/// The control pointer of `header` must lead to a `Control`, with `CONTROL_LENGTH` as its length.
unsafe fn put_control<T>(header: &mut libc::msghdr, level: i32, kind: i32, data: T) {
    const { assert!(size_of::<T>() <= size_of::<libc::in6_pktinfo>()) };
    let size = size_of::<T>() as u32;
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
    // SAFETY: the caller's promise; since a `Control` has room for a header, this is not null.
    let message = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: `message` is the aligned start of the `Control`, whose bytes are initialised.
    let fields = unsafe { &mut *message };
    fields.cmsg_level = level;
    fields.cmsg_type = kind;
    fields.cmsg_len = length as _;
    // SAFETY: a `Control` has room for the largest data, see the assertion at its length.
    unsafe { libc::CMSG_DATA(message).cast::<T>().write_unaligned(data) };
    header.msg_controllen = space as _;
}

fn info_v4(from: Ipv4Addr) -> libc::in_pktinfo {
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

fn info_v6(from: Ipv6Addr) -> libc::in6_pktinfo {
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 }
}

fn to_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn empty_header() -> libc::msghdr {
    // SAFETY: `msghdr` is made of integers and raw pointers, for which all bits zero is a value.
    unsafe { mem::zeroed() }
}
