//! Addresses and control messages as the Linux kernel lays them out, written and read as bytes:
//! no pointer is followed, so nothing here can be unsound. The layouts are the kernel's and not
//! the C library's, and they are the same on every architecture but for the width of `size_t`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::platform::ToldAddress;

/// The length of a `sockaddr_in6`, the longer of the two.
const NAME_LENGTH: usize = 28;
const NAME_LENGTH_V4: usize = 16;

/// A `sockaddr_in` or `sockaddr_in6`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    bytes: [u8; NAME_LENGTH],
}

impl Name {
    pub(super) const LENGTH: usize = NAME_LENGTH;

    pub(super) fn new() -> Name {
        Name { bytes: [0; NAME_LENGTH] }
    }

    /// Writes an address, and answers its length.
    #[inline]
    pub(super) fn set(&mut self, address: SocketAddr) -> usize {
        let bytes = &mut self.bytes;
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                // `sin_zero`.
                bytes[8..16].fill(0);
                NAME_LENGTH_V4
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
                NAME_LENGTH
            }
        }
    }

    /// The address, if it is one of these two.
    #[inline]
    pub(super) fn get(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let port = u16::from_be_bytes(array(bytes, 2));
        match i32::from(u16::from_ne_bytes(array(bytes, 0))) {
            libc::AF_INET => Some((Ipv4Addr::from(array(bytes, 4)), port).into()),
            libc::AF_INET6 => {
                let flow = u32::from_ne_bytes(array(bytes, 4));
                let scope = u32::from_ne_bytes(array(bytes, 24));
                Some(SocketAddrV6::new(Ipv6Addr::from(array(bytes, 8)), port, flow, scope).into())
            }
            _ => None,
        }
    }
}

/// Room for a local address (40 bytes) and a segment size (24).
const CONTROL_LENGTH: usize = 64;
const HEADER: usize = size_of::<usize>() + 8;

/// Control messages, aligned as the kernel wants their headers.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    bytes: [u8; CONTROL_LENGTH],
}

/// What the kernel has told with a message.
#[derive(Default)]
pub(super) struct Told {
    pub(super) local: Option<ToldAddress>,
    /// The length of the datagrams that it has joined.
    pub(super) segment: Option<usize>,
}

impl Control {
    pub(super) const LENGTH: usize = CONTROL_LENGTH;

    pub(super) fn new() -> Control {
        Control { bytes: [0; CONTROL_LENGTH] }
    }

    /// Writes, behind the first `end` bytes, that the message is to leave from `from`. Answers the
    /// new end.
    pub(super) fn put_source(&mut self, end: usize, from: IpAddr, is_v6_socket: bool) -> usize {
        let ip = match (from, is_v6_socket) {
            (IpAddr::V4(ip), false) => {
                // An `in_pktinfo`: interface, source, destination.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                return self.put(end, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            (IpAddr::V4(ip), true) => ip.to_ipv6_mapped(),
            (IpAddr::V6(ip), _) => ip,
        };
        // An `in6_pktinfo`: source, interface.
        let mut info = [0; 20];
        info[..16].copy_from_slice(&ip.octets());
        self.put(end, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
    }

    /// Writes, behind the first `end` bytes, that the message is to leave as datagrams of
    /// `segment` bytes. Answers the new end.
    pub(super) fn put_segment(&mut self, end: usize, segment: u16) -> usize {
        self.put(end, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes())
    }

    fn put(&mut self, end: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let length = HEADER + data.len();
        let message = &mut self.bytes[end..end + aligned(length)];
        message[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
        message[HEADER - 8..HEADER - 4].copy_from_slice(&level.to_ne_bytes());
        message[HEADER - 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..length].copy_from_slice(data);
        message[length..].fill(0);
        end + aligned(length)
    }

    /// Reads what lies in the first `length` bytes. A message that was cut says nothing.
    pub(super) fn told(&self, length: usize) -> Told {
        let mut told = Told::default();
        let mut rest = &self.bytes[..length.min(CONTROL_LENGTH)];
        while rest.len() >= HEADER {
            let length = usize::from_ne_bytes(array(rest, 0));
            let level = i32::from_ne_bytes(array(rest, HEADER - 8));
            let kind = i32::from_ne_bytes(array(rest, HEADER - 4));
            let Some(data) = rest.get(HEADER..length) else { break };
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
                    told.local = Some(ToldAddress::v4(array(data, 4), array(data, 8)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
                    let interface = u32::from_ne_bytes(array(data, 16));
                    told.local = Some(ToldAddress::V6(Ipv6Addr::from(array(data, 0)), interface));
                }
                (libc::SOL_UDP, libc::UDP_GRO) if data.len() >= 4 => {
                    told.segment = usize::try_from(i32::from_ne_bytes(array(data, 0))).ok();
                }
                _ => {}
            }
            rest = rest.get(aligned(length)..).unwrap_or_default();
        }
        told
    }
}

/// A message's length with what stands between it and the next one.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

/// The bytes from `at` on; the callers have looked at the length.
#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for text in ["127.0.0.1:9", "255.1.2.3:65535", "[::1]:80", "[fe80::1%7]:1", "[::]:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = Name { bytes: [0xee; NAME_LENGTH] };
            let length = name.set(address);
            assert_eq!(length, if address.is_ipv4() { 16 } else { 28 });
            assert_eq!(name.get(), Some(address));
        }
        assert_eq!(Name::new().get(), None);
    }

    #[test]
    fn names_are_what_the_c_library_makes_of_the_address() {
        for text in ["1.2.3.4:9", "[2001:db8::9%3]:4711"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = Name::new();
            let length = name.set(address);
            let other = socket2::SockAddr::from(address);
            // SAFETY: a `SockAddr` holds that many initialised bytes.
            let other = unsafe {
                std::slice::from_raw_parts(other.as_ptr().cast::<u8>(), other.len() as usize)
            };
            assert_eq!(&name.bytes[..length], other);
        }
    }

    #[test]
    fn control_messages_follow_one_another_at_aligned_places() {
        let mut control = Control { bytes: [0xee; CONTROL_LENGTH] };
        let end = control.put_source(0, "10.0.0.1".parse().unwrap(), false);
        let end = control.put_segment(end, 1200);
        assert_eq!((end % size_of::<usize>(), end <= CONTROL_LENGTH), (0, true));
        let end = control.put_source(0, "10.0.0.1".parse().unwrap(), true);
        assert!(control.put_segment(end, 1200) <= CONTROL_LENGTH, "the longest fits");
    }

    #[test]
    fn what_was_told_is_read_in_any_order_and_only_whole() {
        let mut control = Control::new();
        let gro = 1_472_i32.to_ne_bytes();
        let end = control.put(0, libc::SOL_UDP, libc::UDP_GRO, &gro);
        let end = control.put_source(end, "::1".parse().unwrap(), true);
        let told = control.told(end);
        assert_eq!(told.segment, Some(1_472));
        let local = told.local.map(|local| local.with_port(7));
        assert_eq!(local, Some("[::1]:7".parse().unwrap()));
        for cut in 0..end {
            let told = control.told(cut);
            assert!(told.local.is_none() || cut >= HEADER + 24 + HEADER, "cut at {cut}");
        }
        assert!(control.told(0).segment.is_none());
    }

    #[test]
    fn lengths_that_make_no_sense_end_the_reading() {
        for length in [0, 1, HEADER - 1, CONTROL_LENGTH + 1, usize::MAX] {
            let mut control = Control::new();
            control.bytes[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            let told = control.told(CONTROL_LENGTH);
            assert!(told.local.is_none() && told.segment.is_none());
        }
    }

    /// An answer then names no source, see `can_be_source`.
    #[test]
    fn a_group_is_told_as_such_and_a_broadcast_address_as_the_interfaces_own() {
        for (destination, told) in
            [([224, 0, 0, 1], "224.0.0.1:1"), ([192, 0, 2, 255], "192.0.2.1:1")]
        {
            let mut control = Control::new();
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&[192, 0, 2, 1]);
            info[8..].copy_from_slice(&destination);
            let end = control.put(0, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            let local = control.told(end).local.map(|local| local.with_port(1));
            assert_eq!(local, Some(told.parse().unwrap()));
        }
    }
}
