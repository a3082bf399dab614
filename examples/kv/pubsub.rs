//! Channels, and who listens to them on this loop.

use std::collections::HashMap;

use bytes::Bytes;
use tightloop::{Conn, ConnId, Context};

use crate::client::Client;
use crate::reply::Reply;
use crate::server::Kv;
use crate::text::Text;

/// Output that a listener may have pending: one that takes less than it is sent is closed, as by
/// the limit of Redis.
const MAX_PENDING_BYTES: usize = 32 << 20;

/// Who listens to which channel, and in which protocol.
#[derive(Default)]
pub struct Channels {
    listeners: HashMap<Text, HashMap<ConnId, bool>>,
}

/// Connections of this loop, as a callback or a job can reach them.
pub trait Peers {
    fn with(&mut self, id: ConnId, visit: &mut dyn FnMut(&mut Conn<'_>));
}

impl Peers for Conn<'_> {
    fn with(&mut self, id: ConnId, visit: &mut dyn FnMut(&mut Conn<'_>)) {
        if let Some(mut conn) = self.peer(id) {
            visit(&mut conn);
        }
    }
}

impl Peers for Context<'_, Kv> {
    fn with(&mut self, id: ConnId, visit: &mut dyn FnMut(&mut Conn<'_>)) {
        if let Some((mut conn, _)) = self.conn(id) {
            visit(&mut conn);
        }
    }
}

impl Channels {
    pub fn subscribe(&mut self, client: &mut Client, id: ConnId, channel: &[u8]) {
        if client.details_mut().channels.insert(Text::from(channel)) {
            client.subscriptions += 1;
            let listeners = self.listeners.entry(Text::from(channel)).or_default();
            listeners.insert(id, client.resp3);
        }
    }

    pub fn unsubscribe(&mut self, client: &mut Client, id: ConnId, channel: &[u8]) {
        if client.details_mut().channels.remove(channel) {
            client.subscriptions -= 1;
            if let Some(listeners) = self.listeners.get_mut(channel) {
                listeners.remove(&id);
                if listeners.is_empty() {
                    self.listeners.remove(channel);
                }
            }
        }
    }

    pub fn unsubscribe_all(&mut self, client: &mut Client, id: ConnId) -> Vec<Text> {
        let channels = client.details.as_ref().map(|details| details.channels.clone());
        let channels: Vec<Text> = channels.into_iter().flatten().collect();
        channels.iter().for_each(|channel| self.unsubscribe(client, id, channel));
        channels
    }

    /// The client speaks another protocol from now on.
    pub fn protocol_changed(&mut self, client: &Client, id: ConnId) {
        let channels = client.details.iter().flat_map(|details| &details.channels);
        for channel in channels {
            if let Some(listener) = self.listeners.get_mut(channel).and_then(|l| l.get_mut(&id)) {
                *listener = client.resp3;
            }
        }
    }

    /// Sends a message to those who listen here, and answers how many they are. The one that
    /// publishes it gets it into its replies, in front of the answer.
    pub fn publish(
        &self,
        peers: &mut impl Peers,
        publisher: Option<(ConnId, &mut Reply)>,
        channel: &[u8],
        message: &[u8],
    ) -> usize {
        let Some(listeners) = self.listeners.get(channel) else { return 0 };
        let formats = [false, true].map(|resp3| Bytes::from(format(resp3, channel, message)));
        let (own, mut reply) = match publisher {
            Some((id, reply)) => (Some(id), Some(reply)),
            None => (None, None),
        };
        for (&id, &resp3) in listeners {
            let bytes = &formats[usize::from(resp3)];
            match &mut reply {
                Some(reply) if own == Some(id) => reply.raw(bytes),
                _ => peers.with(id, &mut |conn| send(conn, bytes)),
            }
        }
        listeners.len()
    }
}

fn format(resp3: bool, channel: &[u8], message: &[u8]) -> Vec<u8> {
    let mut reply = Reply::new(resp3);
    reply.push(3);
    reply.bulk(b"message");
    reply.bulk(channel);
    reply.bulk(message);
    reply.into_bytes()
}

fn send(conn: &mut Conn<'_>, bytes: &Bytes) {
    if conn.write_bytes(Bytes::clone(bytes)) > MAX_PENDING_BYTES {
        conn.abort();
    }
}
