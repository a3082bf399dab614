//! The accepts that a listener has in the kernel: a few at a time, each for one connection, with a
//! place of its own for the peer's address.
//!
//! Not one multishot accept: that tells no addresses, so each connection would cost a call for its
//! peer's, which fails for a peer that has reset meanwhile; and it takes the whole backlog at once,
//! however many connections this turn or the limits want. A few accepts bring the address as
//! accept4(2) does, and as many connections a turn as there are of them.
//!
//! INVARIANT 1 (places): a place is the kernel's from `arm` until the completion that names it, and
//! ours until the next `arm`. Only then is it read or written. The driver lets the kernel end all
//! operations before it drops this.
//! INVARIANT 2 (count): `armed` has a bit for each place that is the kernel's.

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use socket2::SockAddr;

use crate::driver::uring::memory::Mapping;
use crate::driver::uring::ring::Ring;
use crate::driver::uring::settle::cancel;
use crate::driver::uring::tag::{Kind, Tag};
use crate::sys::socket::is_about_one_connection;

/// Accepts of one listener, so connections a turn: enough that an `enter` serves many, and few
/// enough that those that are open wait for no crowd.
pub(super) const ACCEPTS: usize = 16;

/// Where in the tag's index the number of the place begins; listeners have less than 2^16 numbers.
const PLACE_SHIFT: u32 = 16;

/// Bytes of one place: an address, its length, and what makes it a whole number of cache lines.
const PLACE: usize = 192;
const LENGTH_AT: usize = 128;
const _: () = assert!(size_of::<libc::sockaddr_storage>() <= LENGTH_AT);

/// IORING_ACCEPT_POLL_FIRST, of Linux 6.10: without it an accept for which nobody waits makes a
/// socket for nothing first.
const POLL_FIRST: u16 = 1 << 2;

/// So many accepts in a row may find nobody and be begun anew at once. Behind that the listener
/// rests: it would go on for ever.
const MOST_IN_VAIN: usize = 4 * ACCEPTS;

/// The accepts of one listener.
pub(super) struct Accepts {
    places: Mapping,
    armed: u16,
    has_accepted: bool,
    /// How many have found nobody since one has accepted.
    in_vain: usize,
    /// The kernel does not know this kind of accept: there will be no more.
    refused: bool,
}

impl Accepts {
    pub(super) fn new() -> io::Result<Self> {
        let places = Mapping::new(ACCEPTS * PLACE)?;
        Ok(Accepts { places, armed: 0, has_accepted: false, in_vain: 0, refused: false })
    }

    /// How many the kernel has.
    pub(super) fn armed(&self) -> usize {
        self.armed.count_ones() as usize
    }

    /// The kernel wants none, and has none any more.
    pub(super) fn are_refused(&self) -> bool {
        self.refused && self.armed == 0
    }

    /// Has the kernel accept with all places that are not in use, unless it has refused.
    pub(super) fn arm(
        &mut self,
        ring: &mut Ring,
        fd: RawFd,
        number: u32,
        epoch: u32,
    ) -> io::Result<()> {
        for place in 0..ACCEPTS {
            if self.refused || self.armed & 1 << place != 0 {
                continue;
            }
            let (address, length) = (place * PLACE, place * PLACE + LENGTH_AT);
            let room = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            self.places.copy_in(length, &room.to_ne_bytes());
            let entry = opcode::Accept::new(
                types::Fd(fd),
                self.places.at(address).cast(),
                self.places.at(length).cast(),
            );
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let tag = tag_of(place, number, epoch);
            let entry = poll_first(entry.flags(flags).build().user_data(tag.0));
            // SAFETY: the place is the kernel's until the operation has ended, by INVARIANT 1.
            unsafe { ring.push(&entry) }?;
            self.armed |= 1 << place;
        }
        Ok(())
    }

    /// Cancels those that the kernel has. Each by its name, which needs no descriptor.
    pub(super) fn cancel(&self, ring: &mut Ring, number: u32, epoch: u32) -> io::Result<()> {
        let armed = (0..ACCEPTS).filter(|place| self.armed & 1 << place != 0);
        armed.map(|place| tag_of(place, number, epoch)).try_for_each(|tag| cancel(ring, tag))
    }

    /// The accept with this tag has ended: its place is ours. Answers the address that lies there,
    /// which is one if it has accepted.
    pub(super) fn ended(&mut self, tag: Tag) -> Option<SockAddr> {
        let place = (tag.index() >> PLACE_SHIFT) as usize;
        self.armed &= !(1 << place);
        let start = place * PLACE;
        // SAFETY: by INVARIANT 1 nobody writes to it.
        let bytes = unsafe { self.places.slice(start, LENGTH_AT + 4) };
        let (address, length) = bytes.split_at(LENGTH_AT);
        let length = libc::socklen_t::from_ne_bytes(length.try_into().ok()?);
        // SAFETY: what lies there was written by accept, or is zero: an address as its length says.
        let init = unsafe {
            SockAddr::try_init(|storage, room| {
                // SAFETY: the storage has as many bytes as a `sockaddr_storage`, the room of a
                // place; the two do not overlap.
                storage.cast::<u8>().copy_from_nonoverlapping(
                    address.as_ptr(),
                    size_of::<libc::sockaddr_storage>(),
                );
                // SAFETY: try_init gives a valid pointer.
                *room = length.min(*room);
                Ok(())
            })
        };
        init.ok().map(|(_, address)| address)
    }

    /// One has brought a connection.
    pub(super) fn succeeded(&mut self) {
        (self.has_accepted, self.in_vain) = (true, 0);
    }

    /// One has ended without a connection. Answers an error that is the listener's, which has to
    /// rest.
    pub(super) fn failed(&mut self, error: io::Error) -> io::Result<()> {
        match error.raw_os_error() {
            Some(libc::ECANCELED) => Ok(()),
            // A kernel that does not know this kind of accept; a listener that is broken says so
            // again when it is called.
            Some(libc::EINVAL | libc::EOPNOTSUPP) if !self.has_accepted => {
                self.refused = true;
                Ok(())
            }
            // Others took whom it was woken for; or an error of the network, of which accept(2)
            // tells too.
            Some(libc::EAGAIN | libc::EOPNOTSUPP) if self.in_vain < MOST_IN_VAIN => {
                self.in_vain += 1;
                Ok(())
            }
            Some(libc::EAGAIN | libc::EOPNOTSUPP) => {
                self.in_vain = 0;
                Err(error)
            }
            _ if is_about_one_connection(&error) => Ok(()),
            _ => Err(error),
        }
    }

    /// The listener that an accept is of.
    pub(super) fn listener_of(tag: Tag) -> u32 {
        tag.index() & ((1 << PLACE_SHIFT) - 1)
    }
}

fn tag_of(place: usize, number: u32, epoch: u32) -> Tag {
    Tag::new(Kind::Accept, (place as u32) << PLACE_SHIFT | number, epoch)
}

/// The entry of an accept with the flag, for which the crate has no name.
fn poll_first(mut entry: Entry) -> Entry {
    const IOPRIO_AT: usize = 2;
    const { assert!(size_of::<Entry>() == 64) };
    let start = std::ptr::from_mut(&mut entry).cast::<u8>();
    // SAFETY: an `Entry` is the kernel's `struct io_uring_sqe`, whose `ioprio` is two aligned bytes
    // there, and any value of it is an entry.
    unsafe { start.add(IOPRIO_AT).cast::<u16>().write(POLL_FIRST) };
    entry
}
