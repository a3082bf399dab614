//! What is kept for a connection: little, as most are idle most of the time.

use std::collections::HashSet;

use crate::lane::Lane;
use crate::reply::Reply;
use crate::resp::Partial;
use crate::text::Text;

/// The state of a connection.
pub struct Client {
    pub id: u64,
    pub database: u32,
    /// Seconds since the server started.
    pub opened_at: u32,
    pub resp3: bool,
    /// Whether it may do anything, as it has told the password or there is none.
    pub authenticated: bool,
    /// It has closed its side; what it asked before is answered.
    pub closing: bool,
    /// The number of the last command.
    pub last_command: u8,
    /// Bytes of input that could not be carried out yet.
    pub unread: u32,
    /// Channels it has subscribed to.
    pub subscriptions: u32,
    /// A command that has not come in full.
    pub partial: Option<Box<Partial>>,
    /// Replies that are on their way.
    pub lane: Option<Box<Lane>>,
    pub details: Option<Box<Details>>,
}

/// What few connections have.
#[derive(Default)]
pub struct Details {
    pub name: Vec<u8>,
    pub library: Vec<u8>,
    pub library_version: Vec<u8>,
    pub channels: HashSet<Text>,
}

impl Client {
    pub fn new(id: u64, opened_at: u32, authenticated: bool) -> Self {
        Client {
            id,
            database: 0,
            opened_at,
            resp3: false,
            authenticated,
            closing: false,
            last_command: u8::MAX,
            unread: 0,
            subscriptions: 0,
            partial: None,
            lane: None,
            details: None,
        }
    }

    pub fn lane_mut(&mut self) -> &mut Lane {
        self.lane.get_or_insert_default()
    }

    pub fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Moves the replies that are there behind `out`, and forgets a lane that is empty.
    pub fn drain_lane(&mut self, out: &mut Reply) {
        if let Some(lane) = &mut self.lane {
            lane.drain(out);
            if lane.is_empty() {
                self.lane = None;
            }
        }
    }

    /// Whether nothing has to be thought of before the next command.
    pub fn has_free_hand(&self) -> bool {
        let is_waiting = self.lane.is_some() || self.partial.is_some();
        self.authenticated && self.subscriptions == 0 && !is_waiting
    }

    /// Whether only commands about subscriptions are allowed.
    pub fn is_listener(&self) -> bool {
        self.subscriptions > 0 && !self.resp3
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_idle_connection_keeps_little() {
        assert!(size_of::<super::Client>() <= 64);
    }
}
