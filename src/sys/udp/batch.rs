//! Linux and Android: many datagrams by one system call (recvmmsg, sendmmsg), and several as one
//! message that the kernel has joined (UDP_GRO) or is to cut (UDP_SEGMENT).
//!
//! INVARIANT M: the headers of a `Messages` point into its own names, controls and slices, which
//! are never moved, grown or given away as long as it lives. A slice points into memory that
//! lives as long as the system call that uses it.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::Socket;

use super::MAX_PAYLOAD;
use super::runs::BATCH;
use super::wire::{Control, Name};
use crate::addr::canonical;
use crate::sys::raw_option::set;

mod inbox;
mod sender;

pub(crate) use inbox::Inbox;
pub(crate) use sender::Sender;

/// The longest segment that a route which refuses longer ones is still asked to take: what
/// Ethernet carries, less the headers of IPv6 and UDP.
const ETHERNET_SEGMENT: usize = 1_500 - 48;

/// What every route carries, less the headers of IPv4 and UDP. One that refuses to have such short
/// ones cut has none cut.
const NARROWEST_SEGMENT: usize = 576 - 28;

/// What the kernel does for one socket.
#[derive(Debug)]
pub(crate) struct Abilities {
    bound: SocketAddr,
    /// The same as users see it.
    local: SocketAddr,
    /// It tells something with each datagram: its local address, or the size of joined ones.
    tells: bool,
    /// The longest datagrams that it is given to cut from one message; 0 if it cannot.
    segment_limit: usize,
    /// That fewer came than there was room for means that there were no more. It does not where
    /// the reason may have been an error, behind which there are others.
    short_is_all: bool,
}

impl Abilities {
    /// Switches on and tries what the kernel has for a socket that receives into `inbox`.
    pub(crate) fn find_out(
        socket: &Socket,
        bound: SocketAddr,
        inbox: &Inbox,
    ) -> io::Result<Abilities> {
        let is_wildcard = bound.ip().is_unspecified();
        if is_wildcard {
            super::enable_local_address(socket, bound.is_ipv6())?;
        }
        // Joined datagrams fill a message; where there is no room for the longest, each comes
        // alone and is cut alone, whatever a socket that was brought along has set.
        let wanted = inbox.takes_the_longest();
        let joins =
            set(socket, libc::SOL_UDP, libc::UDP_GRO, libc::c_int::from(wanted)).is_ok() && wanted;
        let cuts = set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        let is_connected = socket.peer_addr().is_ok();
        let tells_errors = get(socket, libc::IPPROTO_IP, libc::IP_RECVERR)
            | get(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
        Ok(Abilities {
            bound,
            local: canonical(bound),
            tells: is_wildcard || joins,
            segment_limit: if cuts { MAX_PAYLOAD } else { 0 },
            short_is_all: !is_connected && !tells_errors,
        })
    }

    /// The same for a connected socket. Whether datagrams are joined is what was chosen when it was
    /// made: it shows in the option. Where a hook of the user's has had them joined although there
    /// is no room, that ends here; those that wait already may be cut.
    pub(crate) fn of_connected(socket: &Socket, inbox: &Inbox) -> io::Result<Abilities> {
        let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        let mut joins = get(socket, libc::SOL_UDP, libc::UDP_GRO);
        let cuts = joins && set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        if joins && !inbox.takes_the_longest() {
            joins = set(socket, libc::SOL_UDP, libc::UDP_GRO, 0).is_err();
        }
        Ok(Abilities {
            bound,
            local: canonical(bound),
            tells: joins,
            segment_limit: if cuts { MAX_PAYLOAD } else { 0 },
            // What the peer's system says is an error here.
            short_is_all: false,
        })
    }

    /// The longest datagrams that several of one message may have.
    #[cfg(test)]
    pub(super) fn segment_limit(&self) -> usize {
        self.segment_limit
    }

    /// A message of several datagrams of this size was refused, and one of them alone was not:
    /// the route's devices cannot cut, or not such long ones.
    #[cold]
    pub(super) fn cuts_less_than(&mut self, size: usize, error: &io::Error) {
        // EIO is about a device that computes no checksums, whatever the length.
        let is_about_length = size > NARROWEST_SEGMENT && error.raw_os_error() != Some(libc::EIO);
        self.segment_limit = if is_about_length { ETHERNET_SEGMENT.min(size - 1) } else { 0 };
        log::debug!("datagrams of {size} bytes leave one by one: {error}");
    }
}

/// The memory of system calls with several messages.
struct Messages {
    names: Vec<Name>,
    controls: Vec<Control>,
    slices: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Messages {
    fn new() -> Messages {
        // SAFETY: `mmsghdr` is made of integers and raw pointers, for which all bits zero is a
        // value.
        let empty: libc::mmsghdr = unsafe { mem::zeroed() };
        Messages {
            names: vec![Name::new(); BATCH],
            controls: vec![Control::new(); BATCH],
            slices: vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH],
            headers: vec![empty; BATCH],
        }
    }

    /// The header of a message with its own name, and slices and controls of these numbers.
    fn point(&mut self, at: usize, slices: usize, count: usize, control: usize) {
        debug_assert!(slices + count <= BATCH);
        let header = &mut self.headers[at].msg_hdr;
        // INVARIANT M.
        header.msg_name = self.names.as_mut_ptr().wrapping_add(at).cast();
        header.msg_iov = self.slices.as_mut_ptr().wrapping_add(slices);
        header.msg_iovlen = count as _;
        header.msg_control = match control {
            0 => ptr::null_mut(),
            _ => self.controls.as_mut_ptr().wrapping_add(at).cast(),
        };
        header.msg_controllen = control as _;
    }
}

/// Has the system join datagrams of a socket that is to be connected, where it can.
pub(crate) fn join(socket: &Socket) {
    if let Err(error) = set(socket, libc::SOL_UDP, libc::UDP_GRO, 1) {
        log::debug!("datagrams come and leave one by one: {error}");
    }
}

/// Whether an option of the socket is on; one that it does not have is not.
fn get(socket: &Socket, level: libc::c_int, option: libc::c_int) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers lead to locals, and the length is that of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_mut(&mut value).cast(),
            &mut length,
        )
    };
    result == 0 && value != 0
}
