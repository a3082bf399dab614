//! Simulated datagram sockets: datagrams get lost, are doubled, overtake one another, and are
//! sometimes longer than the receive buffer. None of them may be altered, or be told more often
//! than the network has delivered it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::network::{Item, Network, address_of};
use super::weather::Sabotage;
use crate::driver::{Buffer, Event, Outgoing};

#[derive(Debug, Default)]
pub(crate) struct DatagramSocket {
    /// All that were ever sent to it.
    sent: Vec<Vec<u8>>,
    /// How often each of them is still to be told, at most.
    due: Vec<usize>,
    inbox: VecDeque<usize>,
    /// A send came back blocked, and this is owed a `DatagramWritable`.
    blocked: bool,
    pub(crate) has_room: bool,
    /// Told to the loop, and not yet seen by the handler.
    told: Option<usize>,
    /// What the handler has answered and the driver has not got, in order.
    replies: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(crate) replied: usize,
    pub(crate) refused: usize,
}

impl Network {
    pub(crate) fn plan_datagrams(&mut self, socket: usize, within: u64) {
        for _ in 0..self.weather.datagrams {
            let after = self.random.below(within);
            self.schedule(after, Item::DatagramSent { socket });
        }
    }

    pub(crate) fn send_from_peer(&mut self, socket: usize) {
        let number = self.datagram_sockets[socket].sent.len();
        let length = self.random.size(self.weather.datagram + 1) - 1;
        let payload = (0..length).map(|i| (number * 7 + i * 3) as u8).collect();
        let lost = self.random.chance(self.weather.lost);
        let copies = match (lost, self.random.chance(self.weather.doubled)) {
            (true, _) => 0,
            (false, doubled) => 1 + usize::from(doubled),
        };
        self.datagram_sockets[socket].sent.push(payload);
        self.datagram_sockets[socket].due.push(copies);
        for _ in 0..copies {
            let delay = self.random.below(self.weather.delay + 1);
            self.schedule(delay, Item::DatagramArrives { socket, number });
        }
    }

    pub(crate) fn datagram_arrives(&mut self, socket: usize, number: usize) {
        self.datagram_sockets[socket].inbox.push_back(number);
    }

    pub(crate) fn has_datagram_event(&self, socket: usize) -> bool {
        let socket = &self.datagram_sockets[socket];
        (socket.blocked && socket.has_room) || !socket.inbox.is_empty()
    }

    /// What a socket has to tell, with the payload written into `receive`.
    pub(crate) fn datagram_event<S>(
        &mut self,
        socket: usize,
        receive: &mut [u8],
    ) -> Option<Event<S>> {
        let keep = self.sabotages(Sabotage::RepeatDatagram);
        let entry = &mut self.datagram_sockets[socket];
        if entry.blocked && entry.has_room {
            entry.blocked = false;
            return Some(Event::DatagramWritable { socket: socket as u32 });
        }
        let number = if keep { *entry.inbox.front()? } else { entry.inbox.pop_front()? };
        let payload = &entry.sent[number];
        let length = payload.len();
        if length > receive.len() {
            entry.inbox.retain(|waiting| *waiting != number);
            return Some(Event::DatagramTruncated { socket: socket as u32 });
        }
        receive[..length].copy_from_slice(payload);
        let repeated = entry.told.replace(number).is_some();
        self.note("datagram", number, length);
        if repeated {
            self.fail("a datagram was not offered to the handler".to_owned());
        }
        Some(Event::Datagram {
            socket: socket as u32,
            buffer: Buffer { length },
            peer: address_of(number),
            local: address_of(0),
        })
    }

    /// The handler is told of a datagram.
    pub(crate) fn sees_datagram(&mut self, socket: usize, payload: &[u8], peer: SocketAddr) {
        let entry = &mut self.datagram_sockets[socket];
        let fits = entry
            .told
            .take()
            .filter(|number| entry.sent[*number] == payload && peer == address_of(*number))
            .and_then(|number| {
                entry.due[number] = entry.due[number].checked_sub(1)?;
                Some(number)
            })
            .is_some();
        if !fits {
            self.fail(format!("a datagram of {} bytes is not what arrived", payload.len()));
        }
    }

    /// The handler answers.
    pub(crate) fn replies(&mut self, socket: usize, to: SocketAddr, payload: &[u8]) {
        let entry = &mut self.datagram_sockets[socket];
        entry.replies.push_back((to, payload.to_vec()));
        entry.replied += 1;
    }

    /// The loop sends some: the first of them, and as many behind it as chance wants, in another
    /// order if it wants so.
    pub(crate) fn take_datagrams(
        &mut self,
        socket: usize,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        if self.random.chance(self.weather.blocked) {
            let entry = &mut self.datagram_sockets[socket];
            (entry.blocked, entry.has_room) = (true, false);
            let after = self.random.below(20_000);
            self.schedule(after, Item::DatagramRoom { socket });
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.random.chance(300) {
            // Stable, so that what goes to one peer stays in order.
            datagrams.sort_by_key(|datagram| datagram.to.port());
        }
        let count = 1 + self.random.below(datagrams.len() as u64) as usize;
        for (taken, datagram) in datagrams[..count].iter().enumerate() {
            let refused = self.random.chance(self.weather.refused_datagram);
            if refused && taken > 0 {
                return Ok(taken);
            }
            self.take_datagram(socket, &bytes[datagram.payload.clone()], datagram.to);
            if refused {
                self.datagram_sockets[socket].refused += 1;
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            if self.sabotages(Sabotage::LoseDatagram) {
                break;
            }
        }
        Ok(count)
    }

    fn take_datagram(&mut self, socket: usize, payload: &[u8], to: SocketAddr) {
        self.note("datagram sent", socket, payload.len());
        let replies = &mut self.datagram_sockets[socket].replies;
        let next = replies.iter().position(|(address, _)| *address == to);
        let next = next.and_then(|next| replies.remove(next));
        if next.is_none_or(|(_, bytes)| bytes != payload) {
            self.fail("a datagram is sent that is not the handler's next answer".to_owned());
        }
    }

    /// Answers that the loop still owes.
    pub(crate) fn unsent_replies(&self, socket: usize) -> usize {
        self.datagram_sockets[socket].replies.len()
    }

    /// Whether the loop waits for the socket to take more.
    pub(crate) fn is_datagram_blocked(&self, socket: usize) -> bool {
        self.datagram_sockets[socket].blocked
    }
}
