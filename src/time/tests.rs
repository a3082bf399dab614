//! Tests of the timing wheel, beside a plain list of deadlines as the oracle.

use super::wheel::{TimerKey, Wheel};
use proptest::prelude::*;
use std::time::{Duration, Instant};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Everything due at `now`; goes on where a single call would leave cascades for later.
fn expire_all<T>(wheel: &mut Wheel<T>, now: Instant) -> Vec<T> {
    let mut due = Vec::new();
    loop {
        match wheel.expire(now) {
            Some(payload) => due.push(payload),
            None if wheel.next_deadline().is_some_and(|next| next <= now) => {}
            None => return due,
        }
    }
}

#[test]
fn a_key_fits_eight_bytes_with_and_without_option() {
    assert_eq!(size_of::<TimerKey>(), 8);
    assert_eq!(size_of::<Option<TimerKey>>(), 8);
}

#[test]
fn an_empty_wheel_has_no_deadline_and_yields_nothing() {
    let start = Instant::now();
    let mut wheel = Wheel::<u32>::new(start);
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    assert_eq!(wheel.expire(start + Duration::from_secs(1 << 20)), None);
    wheel.assert_invariants();
}

#[test]
fn a_timer_fires_at_its_deadline_on_every_level_and_not_before() {
    let start = Instant::now();
    for shift in 0..40 {
        for offset in [-1_i64, 0, 1] {
            let ticks = u64::try_from((1_i64 << shift) + offset).unwrap().max(1);
            let mut wheel = Wheel::new(start);
            let deadline = start + Duration::from_millis(ticks);
            wheel.insert(deadline, shift);
            while let Some(next) = wheel.next_deadline().filter(|&next| next < deadline) {
                assert_eq!(wheel.expire(next), None);
            }
            assert_eq!(wheel.expire(deadline - Duration::from_nanos(1)), None);
            assert_eq!(wheel.next_deadline(), Some(deadline));
            assert_eq!(wheel.expire(deadline), Some(shift));
            assert_eq!(wheel.len(), 0);
            wheel.assert_invariants();
        }
    }
}

#[test]
fn a_deadline_between_ticks_is_rounded_up() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let deadline = start + Duration::from_micros(2_300);
    wheel.insert(deadline, ());
    assert_eq!(wheel.expire(deadline), None);
    assert_eq!(wheel.expire(start + 3 * MILLISECOND), Some(()));
}

#[test]
fn timers_fire_in_the_order_of_their_ticks_when_time_jumps() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    for ticks in [70_000_u64, 5, 4_100, 64, 63, 300_000_000, 65] {
        wheel.insert(start + Duration::from_millis(ticks), ticks);
    }
    let due = expire_all(&mut wheel, start + Duration::from_secs(1 << 20));
    assert_eq!(due, [5, 63, 64, 65, 4_100, 70_000, 300_000_000]);
}

#[test]
fn a_cancelled_timer_returns_its_payload_once_and_never_fires() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let key = wheel.insert(start + 5 * MILLISECOND, "gone");
    assert_eq!(wheel.cancel(key), Some("gone"));
    assert_eq!(wheel.cancel(key), None);
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    let reused = wheel.insert(start + 5 * MILLISECOND, "kept");
    assert_eq!(wheel.cancel(key), None, "a stale key does not reach the next timer");
    assert_eq!(wheel.expire(start + 5 * MILLISECOND), Some("kept"));
    assert_eq!(wheel.cancel(reused), None);
    wheel.assert_invariants();
}

#[test]
fn a_timer_that_is_already_due_can_be_cancelled() {
    let start = Instant::now();
    let deadline = start + 5 * MILLISECOND;
    let mut wheel = Wheel::new(start);
    let keys = [1, 2, 3].map(|payload| wheel.insert(deadline, payload));
    assert_eq!(wheel.expire(deadline), Some(1));
    assert_eq!(wheel.cancel(keys[1]), Some(2));
    assert_eq!(wheel.next_deadline(), Some(deadline));
    assert_eq!(wheel.expire(deadline), Some(3));
    assert_eq!(wheel.expire(deadline), None);
    wheel.assert_invariants();
}

#[test]
fn a_past_deadline_fires_at_the_next_tick() {
    let start = Instant::now();
    let now = start + Duration::from_secs(10);
    let mut wheel = Wheel::new(start);
    assert_eq!(wheel.expire(now), None);
    wheel.insert(start, ());
    assert_eq!(wheel.expire(now), None);
    assert_eq!(wheel.next_deadline(), Some(now + MILLISECOND));
    assert_eq!(wheel.expire(now + MILLISECOND), Some(()));
}

#[test]
fn timers_that_rearm_themselves_in_the_past_end_the_round() {
    let start = Instant::now();
    let now = start + Duration::from_secs(10);
    let mut wheel = Wheel::new(start);
    for payload in 0..10 {
        wheel.insert(start + payload * MILLISECOND, payload);
    }
    let mut fired = 0;
    while let Some(payload) = wheel.expire(now) {
        fired += 1;
        assert!(fired <= 10, "a timer fired twice in one round");
        wheel.insert(start, payload);
    }
    assert_eq!((fired, wheel.len()), (10, 10));
}

#[test]
fn a_call_cascades_a_limited_number_of_timers() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let deadline = start + Duration::from_millis(127);
    for payload in 0..5_000 {
        wheel.insert(deadline, payload);
    }
    let mut barren_calls = 0;
    let first = loop {
        match wheel.expire(deadline) {
            Some(payload) => break payload,
            None => barren_calls += 1,
        }
        assert!(wheel.next_deadline().is_some_and(|next| next <= deadline));
        wheel.assert_invariants();
    };
    assert_eq!((first, barren_calls), (0, 4));
    assert_eq!(expire_all(&mut wheel, deadline), (1..5_000).collect::<Vec<_>>());
}

#[test]
fn a_million_timers_that_are_not_due_cost_a_turn_no_more_than_one() {
    let start = Instant::now();
    let turns_take = |armed: u64| {
        let mut wheel = Wheel::new(start);
        for number in 0..armed {
            wheel.insert(
                start + Duration::from_secs(60) + Duration::from_millis(number % 1_000),
                (),
            );
        }
        // The shortest of several times, in which the machine has not stood still.
        let times = (0..10).map(|part| {
            let begun = Instant::now();
            for turn in part * 200..(part + 1) * 200 {
                assert_eq!(wheel.expire(start + Duration::from_millis(turn + 1)), None);
                assert!(wheel.next_deadline().is_some());
            }
            begun.elapsed()
        });
        times.min().unwrap()
    };
    let one = turns_take(1);
    let million = turns_take(1_000_000);
    assert!(million < one * 100 + Duration::from_millis(10), "{one:?}, with a million {million:?}");
}

#[test]
fn time_that_goes_backwards_does_no_harm() {
    let start = Instant::now() + Duration::from_secs(60);
    let mut wheel = Wheel::new(start);
    wheel.insert(start + 5 * MILLISECOND, 5);
    assert_eq!(wheel.expire(start - MILLISECOND), None);
    assert_eq!(wheel.expire(start + 4 * MILLISECOND), None);
    assert_eq!(wheel.expire(start), None);
    assert_eq!(wheel.expire(start + 5 * MILLISECOND), Some(5));
}

#[derive(Clone, Debug)]
enum Step {
    /// Ticks from now; negative ones are past.
    Insert(i64),
    Cancel(usize),
    /// To the wheel's own next deadline.
    AdvanceToNext,
    Advance(u64),
    /// One call of `expire` and nothing more, so that due timers are left.
    ExpireOne,
}

/// Ticks of all magnitudes, over all levels and beyond the range.
fn ticks() -> impl Strategy<Value = u64> {
    (0_u32..39, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => ticks().prop_map(|ticks| Step::Insert(ticks as i64)),
        1 => (0_i64..100).prop_map(|ticks| Step::Insert(-ticks)),
        2 => any::<usize>().prop_map(Step::Cancel),
        3 => Just(Step::AdvanceToNext),
        2 => ticks().prop_map(Step::Advance),
        1 => Just(Step::ExpireOne),
    ]
}

/// The wheel beside the list of what is armed: key, payload and the tick when it is to fire.
struct Model {
    start: Instant,
    now: u64,
    wheel: Wheel<usize>,
    armed: Vec<(TimerKey, usize, u64)>,
    stale: Vec<TimerKey>,
}

impl Model {
    fn instant(&self, tick: u64) -> Instant {
        self.start + Duration::from_millis(tick)
    }

    fn apply(&mut self, step: Step, payload: usize) {
        match step {
            Step::Insert(ticks) => {
                let tick = self.now.saturating_add_signed(ticks);
                let deadline = self.instant(tick);
                let key = self.wheel.insert(deadline, payload);
                self.armed.push((key, payload, tick.max(self.now + 1)));
            }
            Step::Cancel(choice) if !self.armed.is_empty() => {
                let (key, payload, _) = self.armed.swap_remove(choice % self.armed.len());
                assert_eq!(self.wheel.cancel(key), Some(payload));
                self.stale.push(key);
            }
            Step::Cancel(_) => {}
            Step::AdvanceToNext => {
                if let Some(next) = self.wheel.next_deadline() {
                    let tick = next.duration_since(self.start).as_millis() as u64;
                    self.expire_all_at(tick.max(self.now));
                }
            }
            Step::Advance(ticks) => self.expire_all_at(self.now + ticks),
            Step::ExpireOne => {
                self.now += 64;
                let now = self.instant(self.now);
                let fired = self.wheel.expire(now);
                self.disarm(fired);
            }
        }
    }

    fn expire_all_at(&mut self, tick: u64) {
        self.now = tick;
        let now = self.instant(tick);
        let fired = expire_all(&mut self.wheel, now);
        let ticks: Vec<u64> = fired.into_iter().map(|payload| self.disarm(Some(payload))).collect();
        assert!(ticks.is_sorted(), "fired out of order: {ticks:?}");
        assert!(self.armed.iter().all(|&(_, _, due)| due > tick), "a due timer did not fire");
    }

    /// Returns the tick of what has fired, after the check that it was armed and due.
    fn disarm(&mut self, fired: Option<usize>) -> u64 {
        let Some(fired) = fired else {
            return 0;
        };
        let position = self.armed.iter().position(|&(_, payload, _)| payload == fired).unwrap();
        let (key, _, tick) = self.armed.swap_remove(position);
        assert!(tick <= self.now, "fired at {} instead of {tick}", self.now);
        self.stale.push(key);
        tick
    }

    fn check(&mut self) {
        self.wheel.assert_invariants();
        assert_eq!(self.wheel.len(), self.armed.len());
        let earliest = self.armed.iter().map(|&(_, _, tick)| tick).min();
        match (self.wheel.next_deadline(), earliest) {
            (Some(next), Some(earliest)) => assert!(next <= self.instant(earliest)),
            (next, earliest) => assert_eq!((next, earliest), (None, None)),
        }
        for index in 0..self.stale.len() {
            assert_eq!(self.wheel.cancel(self.stale[index]), None);
        }
    }
}

proptest! {
    #[test]
    fn the_wheel_behaves_like_a_list_of_deadlines(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let start = Instant::now();
        let (armed, stale) = (Vec::new(), Vec::new());
        let mut model = Model { start, now: 0, wheel: Wheel::new(start), armed, stale };
        for (payload, step) in steps.into_iter().enumerate() {
            model.apply(step, payload);
            model.check();
        }
        while !model.armed.is_empty() {
            model.apply(Step::AdvanceToNext, 0);
            model.check();
        }
    }
}
