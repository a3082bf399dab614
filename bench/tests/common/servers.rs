//! Servers of other protocols than echo, and such that do not what they should.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tightloop::{Action, Conn, Context, Datagram, Handler, Input};

/// HTTP: replies in turn with a length and in chunks; every one behind `closes_after` says that it
/// closes.
pub struct Http {
    pub status: &'static str,
    pub closes_after: usize,
}

impl Handler for Http {
    type State = usize;

    fn on_open(&mut self, _: &mut Conn<'_>) -> usize {
        0
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        count: &mut usize,
        input: &mut Input<'_>,
    ) -> Action {
        let bytes = input.as_slice();
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Action::Continue;
        };
        let is_known = bytes.starts_with(b"GET /hello HTTP/1.1\r\n")
            && bytes[..end].windows(8).any(|text| text == b"\r\nX-A: b");
        input.consume(end + 4);
        *count += 1;
        let status = if is_known { self.status } else { "404 Not Found" };
        let closes = *count > self.closes_after;
        let connection = if closes { "Connection: close\r\n" } else { "" };
        let rest = match *count % 2 {
            0 => "Content-Length: 13\r\n\r\nHello, World!",
            _ => "Transfer-Encoding: chunked\r\n\r\n6\r\nHello,\r\n7\r\n World!\r\n0\r\n\r\n",
        };
        conn.write(format!("HTTP/1.1 {status}\r\n{connection}{rest}").as_bytes());
        if closes { Action::Close } else { Action::Continue }
    }
}

/// The commands of Redis that `load` uses.
#[derive(Default)]
pub struct Redis {
    values: HashMap<Vec<u8>, Vec<u8>>,
    counters: HashMap<Vec<u8>, i64>,
    /// GET answers each time with the value of the key before.
    mixes_up: bool,
    last: Vec<u8>,
}

impl Redis {
    pub fn that_mixes_up() -> Self {
        Redis { mixes_up: true, ..Redis::default() }
    }

    fn answer(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        match (words[0].as_slice(), &words[1..]) {
            (b"PING", []) => b"+PONG\r\n".to_vec(),
            (b"SET", [key, value]) => {
                self.values.insert(key.clone(), value.clone());
                b"+OK\r\n".to_vec()
            }
            (b"GET", [key]) => {
                let asked = if self.mixes_up { self.last.clone() } else { key.clone() };
                self.last.clone_from(key);
                let Some(value) = self.values.get(&asked) else { return b"$-1\r\n".to_vec() };
                [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
            }
            (b"INCR", [key]) => {
                let counter = self.counters.entry(key.clone()).or_default();
                *counter += 1;
                format!(":{counter}\r\n").into_bytes()
            }
            _ => b"-ERR unknown command\r\n".to_vec(),
        }
    }
}

/// The words of the command that the bytes begin with, and its length.
fn words(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let mut number = |prefix: u8| {
        let end = at + bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        assert_eq!(bytes[at], prefix, "a command as load writes it");
        let number = std::str::from_utf8(&bytes[at + 1..end]).ok()?.parse::<usize>().ok()?;
        at = end + 2;
        if prefix == b'$' {
            at += number + 2;
        }
        Some((number, end + 2))
    };
    let (count, mut end) = number(b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        if end >= bytes.len() {
            return None;
        }
        let (length, start) = number(b'$')?;
        words.push(bytes.get(start..start + length)?.to_vec());
        end = start + length + 2;
    }
    (end <= bytes.len()).then_some((words, end))
}

impl Handler for Redis {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        while !input.is_empty() {
            let Some((words, length)) = words(input.as_slice()) else { break };
            conn.write(&self.answer(&words));
            input.consume(length);
        }
        Action::Continue
    }
}

/// Sends what comes to all connections; `times` for each message.
pub struct Broadcast {
    pub times: usize,
}

impl Handler for Broadcast {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        let message = input.take_all().to_vec();
        for _ in 0..self.times {
            // The one loop of the test's server is the one that would have to make room.
            conn.server().broadcast(message.clone()).expect("a mailbox with room");
        }
        Action::Continue
    }
}

/// An echo that goes wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    /// The byte at this place of each connection's stream is another one.
    Flips(usize),
    /// Each connection is closed behind so many bytes.
    ClosesBehind(usize),
    /// Never says anything.
    Silent,
    /// Each message comes twice.
    Doubles,
    /// Each tenth datagram is not answered.
    LosesTenth,
    /// Each tenth datagram is answered with another one's content.
    MixesUp,
    /// Nothing at all is done for a while, once, so long after the first bytes.
    Stalls { after: Duration, length: Duration },
}

pub struct Faulty {
    fault: Fault,
    /// When the first bytes came.
    began: Option<Instant>,
    datagrams: usize,
    last: Vec<u8>,
}

impl Faulty {
    pub fn new(fault: Fault) -> Self {
        Faulty { fault, began: None, datagrams: 0, last: Vec::new() }
    }
}

impl Handler for Faulty {
    type State = usize;

    fn on_open(&mut self, _: &mut Conn<'_>) -> usize {
        0
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        count: &mut usize,
        input: &mut Input<'_>,
    ) -> Action {
        self.began.get_or_insert_with(Instant::now);
        let mut bytes = input.take_all().to_vec();
        let range = *count..*count + bytes.len();
        *count += bytes.len();
        match self.fault {
            Fault::Flips(at) if range.contains(&at) => bytes[at - range.start] ^= 0x80,
            Fault::ClosesBehind(at) if range.end >= at => return Action::Close,
            Fault::Silent => return Action::Continue,
            Fault::Doubles => drop(conn.write(&bytes)),
            _ => {}
        }
        conn.write(&bytes);
        Action::Continue
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        self.datagrams += 1;
        let is_tenth = self.datagrams.is_multiple_of(10);
        match self.fault {
            Fault::LosesTenth if is_tenth => return Action::Continue,
            Fault::MixesUp if is_tenth => datagram.reply(&self.last.clone()),
            _ => datagram.reply(datagram.payload()),
        }
        self.last = datagram.payload().to_vec();
        Action::Continue
    }

    fn on_tick(&mut self, _: &mut Context<'_, Self>) -> Option<Duration> {
        let Fault::Stalls { after, length } = self.fault else { return None };
        if self.began.is_none_or(|began| began.elapsed() < after) {
            return Some(Duration::from_millis(1));
        }
        // The stall is what is tested.
        std::thread::sleep(length);
        None
    }
}
