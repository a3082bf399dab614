//! Broadcast: the task that received writes to all at once; a receiver that does not take all of it
//! gets a task of its own until it has.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::BUFFER;

/// With this much unsent to one receiver, nobody is read.
const HIGH_WATER: usize = 1 << 20;

struct Receiver {
    stream: TcpStream,
    place: Cell<usize>,
    unsent: RefCell<Vec<u8>>,
    is_flushing: Cell<bool>,
    is_congested: Cell<bool>,
}

#[derive(Default)]
struct Room {
    receivers: RefCell<Vec<Rc<Receiver>>>,
    congested: Cell<usize>,
    relieved: Notify,
}

thread_local! {
    // The one thread of this mode has the one room.
    static ROOM: Rc<Room> = Rc::default();
}

pub async fn serve(stream: TcpStream) -> io::Result<()> {
    let room = ROOM.with(Rc::clone);
    let receiver = room.enter(stream);
    let result = publish(&room, &receiver).await;
    room.leave(&receiver);
    result
}

async fn publish(room: &Rc<Room>, receiver: &Receiver) -> io::Result<()> {
    loop {
        while room.congested.get() > 0 {
            room.relieved.notified().await;
        }
        receiver.stream.readable().await?;
        let received = BUFFER.with_borrow_mut(|buffer| {
            let length = receiver.stream.try_read(buffer)?;
            room.send(&buffer[..length]);
            Ok::<_, io::Error>(length)
        });
        match received {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

impl Room {
    fn enter(&self, stream: TcpStream) -> Rc<Receiver> {
        let mut receivers = self.receivers.borrow_mut();
        let receiver = Rc::new(Receiver {
            stream,
            place: Cell::new(receivers.len()),
            unsent: RefCell::default(),
            is_flushing: Cell::new(false),
            is_congested: Cell::new(false),
        });
        receivers.push(receiver.clone());
        receiver
    }

    fn leave(&self, receiver: &Receiver) {
        let mut receivers = self.receivers.borrow_mut();
        let place = receiver.place.get();
        receivers.swap_remove(place);
        if let Some(moved) = receivers.get(place) {
            moved.place.set(place);
        }
    }

    fn send(self: &Rc<Self>, bytes: &[u8]) {
        for receiver in self.receivers.borrow().iter() {
            let mut sent = 0;
            if !receiver.is_flushing.get() {
                sent = match receiver.stream.try_write(bytes) {
                    Ok(sent) => sent,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    Err(_) => continue, // its own task sees the end and leaves
                };
            }
            if sent < bytes.len() {
                receiver.unsent.borrow_mut().extend_from_slice(&bytes[sent..]);
                self.update_congestion(receiver);
                if !receiver.is_flushing.replace(true) {
                    spawn_local(flush(self.clone(), receiver.clone()));
                }
            }
        }
    }

    fn update_congestion(&self, receiver: &Receiver) {
        let unsent = receiver.unsent.borrow().len();
        if unsent >= HIGH_WATER && !receiver.is_congested.replace(true) {
            self.congested.set(self.congested.get() + 1);
        } else if unsent < HIGH_WATER / 2 && receiver.is_congested.replace(false) {
            self.congested.set(self.congested.get() - 1);
            self.relieved.notify_waiters();
        }
    }
}

async fn flush(room: Rc<Room>, receiver: Rc<Receiver>) {
    let mut sending = Vec::new();
    let mut done = 0;
    loop {
        if done == sending.len() {
            done = 0;
            sending = receiver.unsent.take();
            room.update_congestion(&receiver);
            if sending.is_empty() {
                break;
            }
        }
        let writable = receiver.stream.writable().await;
        match writable.and_then(|()| receiver.stream.try_write(&sending[done..])) {
            Ok(sent) => done += sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                receiver.unsent.take();
                room.update_congestion(&receiver);
                break;
            }
        }
    }
    receiver.is_flushing.set(false);
}
