//! The protocol of Redis: one command, with a key of many. What a GET has to answer depends on the
//! key alone, so the values are SET before the load begins.

use tightloop::{Conn, Input};

use super::super::options::RespCommand;
use super::super::payload::{Pattern, Wrong, difference};
use super::super::plan::Plan;
use super::{Place, Protocol, Replies};

const DIGITS: usize = 8;
/// Most digits of an integer, its sign included.
const MAX_INTEGER: usize = 20;

/// One command for all connections.
pub struct Resp {
    command: RespCommand,
    keys: u64,
    size: usize,
    pattern: Pattern,
    /// The beginning of SET of a key, up to its value; with place for the digits of the key.
    set: Template,
    /// GET or INCR of a key.
    get: Template,
    incr: Template,
    /// What a GET answers in front of the value.
    value_head: Vec<u8>,
    /// Values are being SET.
    is_preparing: bool,
}

/// A command in which the digits of the key are filled in.
struct Template {
    bytes: Vec<u8>,
    digits: usize,
}

impl Template {
    fn new(before: &str, key: &str, behind: &str) -> Self {
        let text = format!("{before}${}\r\n{key}", key.len() + DIGITS);
        let digits = text.len();
        let text = format!("{text}{}\r\n{behind}", "0".repeat(DIGITS));
        Template { bytes: text.into_bytes(), digits }
    }

    fn of_key(&mut self, mut key: u64) -> &[u8] {
        for digit in self.bytes[self.digits..self.digits + DIGITS].iter_mut().rev() {
            *digit = b'0' + (key % 10) as u8;
            key /= 10;
        }
        &self.bytes
    }
}

impl Resp {
    pub fn new(plan: &Plan) -> Self {
        let size = plan.size;
        Resp {
            command: plan.command,
            keys: plan.keys,
            size,
            pattern: Pattern::new(size),
            set: Template::new("*3\r\n$3\r\nSET\r\n", "key:", &format!("${size}\r\n")),
            get: Template::new("*2\r\n$3\r\nGET\r\n", "key:", ""),
            incr: Template::new("*2\r\n$4\r\nINCR\r\n", "counter:", ""),
            value_head: format!("${size}\r\n").into_bytes(),
            is_preparing: plan.command == RespCommand::Get,
        }
    }

    fn write_one(&mut self, conn: &mut Conn<'_>, place: Place) {
        let key = self.key(place);
        let command = match self.command {
            RespCommand::Get => self.get.of_key(key),
            RespCommand::Incr => self.incr.of_key(key),
            RespCommand::Ping => b"*1\r\n$4\r\nPING\r\n",
            RespCommand::Set => return self.write_set(conn, key),
        };
        conn.write(command);
    }

    fn write_set(&mut self, conn: &mut Conn<'_>, key: u64) {
        conn.write(self.set.of_key(key));
        self.pattern.write(conn, key, 0, self.size);
        conn.write(b"\r\n");
    }

    /// The key of a request: any, but the same for the reply.
    fn key(&self, place: Place) -> u64 {
        let mixed = (place.connection << 40 ^ place.sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((u128::from(mixed) * u128::from(self.keys)) >> 64) as u64
    }

    /// Checks a reply that is known beforehand, as far as it has come.
    fn known(
        &self,
        progress: &mut usize,
        parts: [&[u8]; 3],
        input: &mut Input<'_>,
    ) -> Result<Replies, Wrong> {
        let mut begin = 0;
        for part in parts {
            let end = begin + part.len();
            if *progress < end && !input.is_empty() {
                let expected = &part[*progress - begin..];
                let count = expected.len().min(input.len());
                let got = &input.as_slice()[..count];
                if got != &expected[..count] {
                    return Err(unexpected(*progress, expected, input.as_slice()));
                }
                input.consume(count);
                *progress += count;
            }
            begin = end;
        }
        if *progress < begin {
            return Ok(Replies::NONE);
        }
        *progress = 0;
        Ok(Replies::ONE)
    }
}

impl Protocol for Resp {
    /// Bytes of the reply that have come.
    type Progress = usize;

    fn write(&mut self, conn: &mut Conn<'_>, first: Place, count: usize) {
        for sequence in first.sequence..first.sequence + count as u64 {
            self.write_one(conn, Place { sequence, ..first });
        }
    }

    fn read(
        &mut self,
        progress: &mut usize,
        place: Place,
        _: usize,
        input: &mut Input<'_>,
    ) -> Result<Replies, Wrong> {
        match self.command {
            _ if self.is_preparing => self.known(progress, [b"+OK\r\n", b"", b""], input),
            RespCommand::Set => self.known(progress, [b"+OK\r\n", b"", b""], input),
            RespCommand::Ping => self.known(progress, [b"+PONG\r\n", b"", b""], input),
            RespCommand::Get => {
                let value = self.pattern.slice(self.key(place), 0, self.size);
                self.known(progress, [&self.value_head, value, b"\r\n"], input)
            }
            RespCommand::Incr => integer(input),
        }
    }

    fn preparations(&self) -> u64 {
        if self.command == RespCommand::Get { self.keys } else { 0 }
    }

    fn prepare(&mut self, conn: &mut Conn<'_>, index: u64) {
        self.write_set(conn, index);
    }

    fn prepared(&mut self) {
        self.is_preparing = false;
    }
}

/// Reads a positive integer, as INCR answers.
fn integer(input: &mut Input<'_>) -> Result<Replies, Wrong> {
    let bytes = input.as_slice();
    let Some(end) = bytes.iter().position(|byte| *byte == b'\r') else {
        let may_become_one = bytes[0] == b':' && bytes.len() <= MAX_INTEGER;
        return if may_become_one { Ok(Replies::NONE) } else { Err(unexpected(0, b":", bytes)) };
    };
    let digits = std::str::from_utf8(&bytes[..end]).ok().and_then(|text| text.strip_prefix(':'));
    let value: Option<i64> = digits.and_then(|digits| digits.parse().ok());
    match (value, bytes.get(end + 1)) {
        (Some(1..), None) => Ok(Replies::NONE),
        (Some(1..), Some(b'\n')) => {
            input.consume(end + 2);
            Ok(Replies::ONE)
        }
        _ => Err(unexpected(0, b":", bytes)),
    }
}

/// Says what came in place of what was expected: an error of the server in its own words.
fn unexpected(at: usize, expected: &[u8], got: &[u8]) -> Wrong {
    let line = got.split(|byte| *byte == b'\r').next().unwrap_or(got);
    let line = String::from_utf8_lossy(&line[..line.len().min(100)]);
    match got.first() {
        Some(b'-') if at == 0 => Wrong { what: format!("the server says {line}") },
        Some(b'$') if line == "$-1" => Wrong { what: "the key is gone".to_owned() },
        _ => difference(at as u64, expected, &got[..got.len().min(expected.len())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resp(command: RespCommand) -> Resp {
        let options = <crate::load::Options as clap::FromArgMatches>::from_arg_matches(
            &<crate::load::Options as clap::Args>::augment_args(clap::Command::new("load"))
                .get_matches_from(["load", "redis://localhost", "-s", "20", "--keys", "50"]),
        );
        let mut plan = Plan::new(options.unwrap()).unwrap();
        plan.command = command;
        let mut resp = Resp::new(&plan);
        resp.prepared();
        resp
    }

    const PLACE: Place = Place { connection: 3, sequence: 9 };

    fn read(resp: &mut Resp, reply: &[u8], piece: usize) -> Result<Replies, Wrong> {
        let (mut progress, mut kept) = (0, Vec::new());
        let mut last = Ok(Replies::NONE);
        for bytes in reply.chunks(piece) {
            kept.extend_from_slice(bytes);
            let mut input = Input::new(&kept);
            last = resp.read(&mut progress, PLACE, 1, &mut input);
            last.as_ref().map_err(|wrong| Wrong { what: wrong.what.clone() })?;
            let consumed = input.consumed();
            kept.drain(..consumed);
        }
        last
    }

    #[test]
    fn a_value_is_checked_in_pieces_of_any_size() {
        let mut resp = resp(RespCommand::Get);
        let value = resp.pattern.slice(resp.key(PLACE), 0, 20).to_vec();
        let reply = [b"$20\r\n", &value[..], b"\r\n"].concat();
        for piece in 1..=reply.len() {
            assert_eq!(read(&mut resp, &reply, piece), Ok(Replies::ONE), "pieces of {piece}");
        }
        let mut other = reply.clone();
        other[10] ^= 1;
        assert!(read(&mut resp, &other, 4).unwrap_err().what.starts_with("at byte 10"));
    }

    #[test]
    fn errors_are_told_in_the_servers_words() {
        let mut get = resp(RespCommand::Get);
        let wrong = read(&mut get, b"-NOAUTH Authentication required.\r\n", 100).unwrap_err();
        assert_eq!(wrong.what, "the server says -NOAUTH Authentication required.");
        assert_eq!(read(&mut get, b"$-1\r\n", 100).unwrap_err().what, "the key is gone");
    }

    #[test]
    fn counters_are_positive_integers() {
        let mut incr = resp(RespCommand::Incr);
        for piece in 1..6 {
            assert_eq!(read(&mut incr, b":12\r\n", piece), Ok(Replies::ONE));
        }
        for wrong in [&b":0\r\n"[..], b":-1\r\n", b":x\r\n", b"+OK\r\n", b":123456789012345678901"]
        {
            assert!(read(&mut incr, wrong, 100).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn keys_are_spread_over_all() {
        let resp = resp(RespCommand::Get);
        let keys: std::collections::HashSet<u64> =
            (0..1000).map(|sequence| resp.key(Place { connection: 1, sequence })).collect();
        assert_eq!(keys.len(), 50);
    }
}
