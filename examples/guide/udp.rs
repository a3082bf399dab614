//! Chapter 7 of the guide (docs/guide): a table of values over UDP, whose changes can be watched.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tightloop::{Action, Conn, Datagram, Handler, Input, Server};

/// Bounds, as anybody can send us datagrams, under any address.
const MAX_REQUEST: usize = 200;
const MAX_KEYS: usize = 10_000;
const MAX_WATCHERS: usize = 10;

/// A watcher that does not ask again is forgotten.
const WATCH_FOR: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Table {
    entries: HashMap<String, Entry>,
}

#[derive(Default)]
struct Entry {
    value: String,
    watchers: Vec<(SocketAddr, Instant)>,
}

impl Table {
    /// One request, one answer.
    fn answer(&mut self, datagram: &mut Datagram<'_>) -> String {
        if datagram.payload().len() > MAX_REQUEST {
            return "error: too long\n".to_owned();
        }
        let Ok(text) = str::from_utf8(datagram.payload()) else {
            return "error: not text\n".to_owned();
        };
        let words: Vec<&str> = text.trim_end().splitn(3, ' ').collect();
        match words[..] {
            ["get", key] => match self.entries.get(key) {
                Some(entry) => format!("{key} {}\n", entry.value),
                None => format!("no {key}\n"),
            },
            ["set", key, value] => match self.entry(key) {
                Some(entry) => {
                    entry.value = value.to_owned();
                    entry.tell(datagram, &format!("{key} {value}\n"));
                    "done\n".to_owned()
                }
                None => "error: full\n".to_owned(),
            },
            ["watch", key] => {
                match self.entry(key).map(|entry| entry.watch(datagram.peer_addr())) {
                    Some(true) => "watching\n".to_owned(),
                    Some(false) | None => "error: full\n".to_owned(),
                }
            }
            _ => "error: get KEY, set KEY VALUE or watch KEY\n".to_owned(),
        }
    }

    fn entry(&mut self, key: &str) -> Option<&mut Entry> {
        if self.entries.len() >= MAX_KEYS && !self.entries.contains_key(key) {
            return None;
        }
        Some(self.entries.entry(key.to_owned()).or_default())
    }
}

impl Entry {
    fn watch(&mut self, peer: SocketAddr) -> bool {
        let now = Instant::now();
        self.watchers.retain(|&(watcher, until)| watcher != peer && until > now);
        if self.watchers.len() >= MAX_WATCHERS {
            return false;
        }
        self.watchers.push((peer, now + WATCH_FOR));
        true
    }

    fn tell(&mut self, datagram: &mut Datagram<'_>, news: &str) {
        let now = Instant::now();
        self.watchers.retain(|&(_, until)| until > now);
        for &(watcher, _) in &self.watchers {
            datagram.send_to(watcher, news.as_bytes());
        }
    }
}

impl Handler for Table {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), _: &mut Input<'_>) -> Action {
        Action::Close // there are no connections where only udp:// is listened on
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        let answer = self.answer(datagram);
        datagram.reply(answer.as_bytes());
        Action::Continue
    }
}

fn main() -> tightloop::Result<()> {
    let url = std::env::args().nth(1).unwrap_or("udp://127.0.0.1:9000".to_owned());
    let server = Server::new().listen(url).start(|_loop| Table::default())?;
    println!("listening on {}", server.local_addrs()[0]);
    server.join()
}
