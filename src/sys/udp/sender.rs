//! Sending many datagrams at once: those to one peer that are alike as one message.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use socket2::Socket;

use super::{Abilities, Messages};
use crate::sys::udp::runs::{BATCH, Order, first_run, first_run_of};
use crate::sys::udp::{self, Outgoing, target_and_source};

/// Sends many datagrams at once.
pub(crate) struct Sender {
    messages: Messages,
    /// Datagrams in each message.
    counts: [u8; BATCH],
    order: Order,
}

impl Sender {
    pub(crate) fn new() -> Sender {
        Sender { messages: Messages::new(), counts: [0; BATCH], order: Order::new() }
    }

    /// Sends from the front of `datagrams`, whose payloads lie in `bytes`, as many as one system
    /// call takes, without waiting; answers how many. Brings them into another order if that lets
    /// more of them leave together, but not those to the same peer.
    ///
    /// # Errors
    /// Is about the first one: `WouldBlock` if there is no room, or why it cannot be sent.
    pub(crate) fn send(
        &mut self,
        socket: &Socket,
        abilities: &mut Abilities,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        let count = datagrams.len().min(BATCH);
        let datagrams = &mut datagrams[..count];
        let messages = self.pack(abilities, bytes, datagrams);
        let headers = self.messages.headers.as_mut_ptr();
        // SAFETY: INVARIANT M, and `pack` has just made the slices lead into `bytes`, which the
        // kernel only reads.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), headers, messages as _, libc::MSG_DONTWAIT as _)
        };
        let Ok(sent) = usize::try_from(sent) else {
            let error = io::Error::last_os_error();
            self.order.apply(datagrams);
            return match error.kind() {
                io::ErrorKind::WouldBlock => Err(error),
                _ => self.send_first(socket, abilities, bytes, datagrams, &error),
            };
        };
        if sent == messages {
            return Ok(count);
        }
        self.order.apply(datagrams);
        Ok(self.counts[..sent].iter().map(|&count| usize::from(count)).sum())
    }

    /// As `send`, of a connected socket: datagrams of these lengths, at most half of a batch, that
    /// lie one behind the other in `slices`, as far as these reach; there are no more of them than
    /// that either.
    ///
    /// # Errors
    /// Is about the first one, or about the socket's peer.
    pub(crate) fn send_connected(
        &mut self,
        socket: &Socket,
        abilities: &mut Abilities,
        slices: &[IoSlice<'_>],
        lengths: &[usize],
    ) -> io::Result<usize> {
        debug_assert!(slices.len() <= BATCH / 2 && lengths.len() <= BATCH / 2);
        let messages = self.pack_connected(abilities.segment_limit, slices, lengths);
        let headers = self.messages.headers.as_mut_ptr();
        // SAFETY: INVARIANT M, and `pack_connected` has just made the slices lead into those of the
        // caller, which the kernel only reads.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers,
                messages as _,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(self.counts[..sent].iter().map(|&count| usize::from(count)).sum());
        }
        let error = io::Error::last_os_error();
        if self.counts[0] > 1 && is_about_cutting(&error) {
            // It may have been about an earlier datagram, or about this one however it leaves.
            let sent = self.send_connected(socket, abilities, slices, &lengths[..1])?;
            abilities.cuts_less_than(lengths[0], &error);
            return Ok(sent);
        }
        Err(error)
    }

    /// Makes messages of datagrams of these lengths; answers how many.
    fn pack_connected(
        &mut self,
        segment_limit: usize,
        slices: &[IoSlice<'_>],
        lengths: &[usize],
    ) -> usize {
        let Sender { messages, counts, .. } = self;
        let (mut filled, mut used, mut rest) = (0, 0, lengths);
        let mut slices = slices.iter();
        let mut slice: &[u8] = &[];
        while !rest.is_empty() {
            let run = first_run_of(rest, segment_limit);
            let first = used;
            let mut missing: usize = rest[..run].iter().sum();
            while missing > 0 {
                if slice.is_empty() {
                    // A datagram of which a part is out of reach is not among these.
                    let Some(next) = slices.next() else { return filled };
                    slice = next;
                }
                let (part, behind) = slice.split_at(slice.len().min(missing));
                // The kernel only reads it; the C type has no const.
                let start = part.as_ptr().cast_mut().cast();
                messages.slices[used] = libc::iovec { iov_base: start, iov_len: part.len() };
                used += 1;
                missing -= part.len();
                slice = behind;
            }
            let control = match run > 1 {
                true => messages.controls[filled].put_segment(0, rest[0] as u16),
                false => 0,
            };
            messages.point(filled, first, used - first, control);
            messages.headers[filled].msg_hdr.msg_name = std::ptr::null_mut();
            messages.headers[filled].msg_hdr.msg_namelen = 0;
            counts[filled] = run as u8;
            filled += 1;
            rest = &rest[run..];
        }
        filled
    }

    /// Sends the first datagram alone. What the kernel has said may have been about an earlier
    /// datagram, and is said once; or about the message, of which it was a part.
    #[cold]
    fn send_first(
        &mut self,
        socket: &Socket,
        abilities: &mut Abilities,
        bytes: &[u8],
        datagrams: &[Outgoing],
        error: &io::Error,
    ) -> io::Result<usize> {
        let Some(first) = datagrams.first() else { return Ok(0) };
        let payload = &bytes[first.payload.clone()];
        udp::send(socket, payload, first.to, first.from, abilities.bound)?;
        if self.counts[0] > 1 && is_about_cutting(error) {
            abilities.cuts_less_than(payload.len(), error);
        }
        Ok(1)
    }

    /// Makes messages of the datagrams; answers how many.
    fn pack(&mut self, abilities: &Abilities, bytes: &[u8], datagrams: &[Outgoing]) -> usize {
        let Sender { messages, counts, order } = self;
        let cuts = abilities.segment_limit > 0;
        let mut rest = match cuts && datagrams.len() > 1 {
            true => order.group(datagrams),
            false => order.keep(datagrams.len()),
        };
        let (mut filled, mut slices) = (0, 0);
        while let Some(&first) = rest.first() {
            let run = first_run(datagrams, rest, abilities.segment_limit);
            let first = &datagrams[usize::from(first)];
            let first_slice = slices;
            let mut end = usize::MAX;
            for &at in &rest[..run] {
                let payload = &datagrams[usize::from(at)].payload;
                if payload.start == end {
                    messages.slices[slices - 1].iov_len += payload.len();
                } else {
                    let part = &bytes[payload.clone()];
                    // The kernel only reads it; the C type has no const.
                    let start = part.as_ptr().cast_mut().cast();
                    messages.slices[slices] = libc::iovec { iov_base: start, iov_len: part.len() };
                    slices += 1;
                }
                end = payload.end;
            }
            let (target, from) = target_and_source(first.to, first.from, abilities.bound);
            let mut control = 0;
            if let Some(from) = from {
                control = messages.controls[filled].put_source(control, from, target.is_ipv6());
            }
            if run > 1 {
                let size = first.payload.len() as u16;
                control = messages.controls[filled].put_segment(control, size);
            }
            messages.point(filled, first_slice, slices - first_slice, control);
            let name_length = messages.names[filled].set(target);
            messages.headers[filled].msg_hdr.msg_namelen = name_length as _;
            counts[filled] = run as u8;
            filled += 1;
            rest = &rest[run..];
        }
        filled
    }
}

/// Whether a message of several datagrams may have been refused because it cannot be cut.
fn is_about_cutting(error: &io::Error) -> bool {
    let about_cutting = [libc::EIO, libc::EINVAL, libc::EMSGSIZE, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| about_cutting.contains(&code))
}
