//! A run of GETs and SETs that came together: all of their keys are looked up before the first of
//! them is carried out.
//!
//! An entry is rarely in the processor's cache, and to wait for it is most of what a GET costs. In
//! look-ups that stand close together the processor waits for several entries at once; between two
//! of them that stand a whole command apart it does not get that far.

use crate::commands::strings;
use crate::quick::{self, Command};
use crate::reply::Reply;
use crate::store::Store;
use crate::table::Place;

/// Most commands that are looked up together. More are not waited for at once anyway.
const MOST: usize = 16;

/// What was done of the input.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub bytes: usize,
    pub commands: u64,
    /// The last one was a SET.
    pub is_set: bool,
}

/// Where commands on a database's keys find what they need.
pub struct Desk<'a> {
    pub store: &'a mut Store,
    pub reply: &'a mut Reply,
    pub database: usize,
    pub now: u64,
}

/// Carries out the run at the beginning of the input, if there is one. It ends early when the
/// replies are more than `most_reply_bytes`.
#[inline]
pub fn carry_out(desk: &mut Desk<'_>, input: &[u8], most_reply_bytes: usize) -> Option<Done> {
    let (first, length) = quick::read(input)?;
    let Some((second, next)) = quick::read(&input[length..]) else {
        desk.run(&first);
        let is_set = matches!(first, Command::Set(..));
        return Some(Done { bytes: length, commands: 1, is_set });
    };
    let mut commands = [(first, length); MOST];
    commands[1] = (second, length + next);
    Some(desk.run_all(commands, input, most_reply_bytes))
}

impl Desk<'_> {
    /// The first two are there already.
    fn run_all<'a>(
        &mut self,
        mut commands: [(Command<'a>, usize); MOST],
        input: &'a [u8],
        most_reply_bytes: usize,
    ) -> Done {
        let (mut count, mut bytes) = (2, commands[1].1);
        while let Some(free) = commands.get_mut(count)
            && let Some((command, length)) = quick::read(&input[bytes..])
        {
            bytes += length;
            *free = (command, bytes);
            count += 1;
        }
        let places = self.look_up(&commands[..count]);
        let mut done = Done { bytes: 0, commands: 0, is_set: false };
        for (&place, &(command, end)) in places.iter().zip(&commands[..count]) {
            self.run_at(&command, place);
            let is_set = matches!(command, Command::Set(..));
            done = Done { bytes: end, commands: done.commands + 1, is_set };
            if self.reply.len() > most_reply_bytes {
                break;
            }
        }
        done
    }

    /// Step by step for all of them: what one step of a look-up waits for is fetched together.
    #[inline]
    fn look_up(&self, commands: &[(Command<'_>, usize)]) -> [Option<Place>; MOST] {
        let (store, database) = (&*self.store, self.database);
        let mut places = [None; MOST];
        let hashes = commands.iter().map(|(command, _)| store.hash(command.key()));
        for (place, hash) in places.iter_mut().zip(hashes) {
            *place = store.guess(database, hash);
        }
        for (place, (command, _)) in places.iter_mut().zip(commands) {
            *place = place.filter(|&place| store.is_at(database, place, command.key()));
        }
        places
    }

    /// A command whose key was looked up a moment ago. What was done since may have moved, added or
    /// removed its entry: then it is looked up again.
    #[inline]
    fn run_at(&mut self, command: &Command<'_>, place: Option<Place>) {
        let Desk { database, now, .. } = *self;
        let Some(place) = place else { return self.run(command) };
        match *command {
            Command::Get(_) => match self.store.read_at(database, place, now) {
                Some(entry) => strings::tell_entry(entry, self.reply),
                None => self.run(command),
            },
            Command::Set(_, value) => {
                let put = |entry: &mut _| strings::put_entry(entry, value);
                match self.store.change_at(database, place, now, put) {
                    Some(()) => self.reply.ok(),
                    None => self.run(command),
                }
            }
        }
    }

    #[inline]
    fn run(&mut self, command: &Command<'_>) {
        let Desk { store, reply, database, now } = self;
        match *command {
            Command::Get(key) => strings::tell(store, *database, key, *now, reply),
            Command::Set(key, value) => {
                strings::put(store, *database, key, value, *now);
                reply.ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quick::tests::encoded;
    use foldhash::fast::RandomState;

    /// Carries all of it out, in runs or one by one; answers how many commands it was too.
    fn answers(store: &mut Store, input: &[u8], in_runs: bool, now: u64) -> (Vec<u8>, u64) {
        let (mut reply, mut at, mut commands) = (Reply::default(), 0, 0);
        while at < input.len() {
            let mut desk = Desk { store, reply: &mut reply, database: 0, now };
            if in_runs {
                let done = carry_out(&mut desk, &input[at..], usize::MAX).expect("a run");
                at += done.bytes;
                commands += done.commands;
            } else {
                let (command, length) = quick::read(&input[at..]).expect("a command");
                desk.run(&command);
                at += length;
                commands += 1;
            }
        }
        assert_eq!(at, input.len());
        (reply.into_bytes(), commands)
    }

    #[test]
    fn runs_are_answered_as_one_command_after_the_other() {
        let seed = RandomState::default();
        let (mut one, mut other) = (Store::new(1, seed.clone()), Store::new(1, seed));
        let mut random = 88172645463325252_u64;
        for round in 0..500_u64 {
            let mut input = Vec::new();
            let count = round % 40 + 1;
            for _ in 0..count {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let key = format!("key:{}", (random >> 8) % 600);
                let value = format!("{random}").repeat((random >> 60) as usize % 4 + 1);
                match random % 5 {
                    0..3 => input.extend(encoded(&[b"GET", key.as_bytes()])),
                    _ => input.extend(encoded(&[b"SET", key.as_bytes(), value.as_bytes()])),
                }
            }
            // Some have ended before they are asked for.
            for store in [&mut one, &mut other] {
                let key = format!("key:{}", round % 600);
                store.remove(0, key.as_bytes(), round);
                store.insert(0, key.as_bytes(), crate::value::Value::string(b"x"), round + 3);
            }
            let expected = answers(&mut one, &input, false, round);
            assert_eq!(expected.1, count);
            assert_eq!(answers(&mut other, &input, true, round), expected);
            assert_eq!(one.database(0).len(), other.database(0).len());
            assert_eq!((one.expired, one.memory()), (other.expired, other.memory()));
        }
        assert!(one.expired > 0);
    }

    #[test]
    fn a_run_ends_when_its_replies_are_many() {
        let mut store = Store::new(1, RandomState::default());
        let input = encoded(&[b"GET", b"none"]).repeat(10);
        let mut reply = Reply::default();
        let mut desk = Desk { store: &mut store, reply: &mut reply, database: 0, now: 0 };
        let done = carry_out(&mut desk, &input, 12).expect("a run");
        assert_eq!((done.commands, done.bytes, done.is_set), (3, input.len() / 10 * 3, false));
        assert_eq!(reply.len(), 15);
    }
}
