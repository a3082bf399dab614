//! `Mailbox`: many senders, one loop, one vector behind a lock that is held for a push or a swap.
//!
//! The loop takes the whole vector and leaves its empty one, so that the lock is held for three
//! words however much is queued, and both vectors keep their memory: the steady state does not
//! allocate. Beside the lock stands one flag, so that a loop with no mail finds that out without
//! locking. Ringing the loop is not done here: see `wake`.
//!
//! INVARIANT: under the lock, `has_items` is true exactly if `items` is not empty; `closed` implies
//! that `items` is empty.

use crate::error::HandleError;

use super::primitives::{AtomicBool, Mutex, MutexGuard, Ordering, lock};

/// A push that was refused; the item comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected<T> {
    /// As many items wait as the mailbox may hold.
    Full(T),
    /// The loop has ended: it takes nothing any more.
    Closed(T),
}

impl<T> Rejected<T> {
    /// What to tell the sender, and the item.
    pub(crate) fn split(self) -> (HandleError, T) {
        match self {
            Rejected::Full(item) => (HandleError::Full, item),
            Rejected::Closed(item) => (HandleError::Closed, item),
        }
    }
}

/// A bounded queue of any number of senders to one loop.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    inner: Mutex<Inner<T>>,
    /// Written under the lock only; read without it.
    has_items: AtomicBool,
    /// In items.
    capacity: usize,
}

#[derive(Debug)]
struct Inner<T> {
    items: Vec<T>,
    closed: bool,
}

impl<T> Mailbox<T> {
    /// An empty mailbox that takes `capacity` items between two visits of the loop. It allocates
    /// nothing until the first push.
    pub(crate) fn new(capacity: usize) -> Mailbox<T> {
        let inner = Mutex::new(Inner { items: Vec::new(), closed: false });
        Mailbox { inner, has_items: AtomicBool::new(false), capacity }
    }

    /// Queues an item behind those that wait. After it the sender asks the `WakeFlag` whether to
    /// ring.
    pub(crate) fn push(&self, item: T) -> Result<(), Rejected<T>> {
        self.push_bounded(item, self.capacity)
    }

    /// Queues an item even when the mailbox is full.
    ///
    /// For messages that must not be refused for the sake of data and whose number is bounded
    /// elsewhere: stop (one a loop) and the hand-over of accepted sockets (bounded by the
    /// connection limit). It still is refused by a closed mailbox.
    pub(crate) fn push_reserved(&self, item: T) -> Result<(), Rejected<T>> {
        self.push_bounded(item, usize::MAX)
    }

    fn push_bounded(&self, item: T, capacity: usize) -> Result<(), Rejected<T>> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(Rejected::Closed(item));
        }
        if inner.items.len() >= capacity {
            return Err(Rejected::Full(item));
        }
        inner.items.push(item);
        if inner.items.len() == 1 {
            self.publish(&inner);
        }
        Ok(())
    }

    /// Takes all that waits, oldest first. `batch` must be empty; its memory becomes the mailbox's.
    pub(crate) fn swap_into(&self, batch: &mut Vec<T>) {
        debug_assert!(batch.is_empty(), "the items of an unfinished batch would be queued anew");
        if self.is_empty() {
            return;
        }
        let mut inner = lock(&self.inner);
        std::mem::swap(&mut inner.items, batch);
        self.publish(&inner);
    }

    /// True if nothing waits. Takes no lock: this is the look of a loop between `begin_sleep` and
    /// blocking, and what it may miss is explained in `wake`.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_items.load(Ordering::Acquire)
    }

    /// How many items wait. Takes the lock: for statistics, not for each turn of the loop.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).items.len()
    }

    /// Refuses every push from now on, and gives back what was queued, oldest first, so that the
    /// caller can answer each item with an error. A second call gives back nothing.
    #[must_use = "what was queued must be answered"]
    pub(crate) fn close(&self) -> Vec<T> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let items = std::mem::take(&mut inner.items);
        self.publish(&inner);
        items
    }

    /// Makes `has_items` say what the locked vector says.
    fn publish(&self, inner: &MutexGuard<'_, Inner<T>>) {
        self.has_items.store(!inner.items.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::wake::WakeFlag;
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn items_come_out_in_the_order_they_went_in() {
        let mailbox = Mailbox::new(8);
        assert!(mailbox.is_empty());
        for item in 0..3 {
            assert_eq!(mailbox.push(item), Ok(()));
        }
        assert!(!mailbox.is_empty());
        assert_eq!(mailbox.len(), 3);
        let mut batch = Vec::new();
        mailbox.swap_into(&mut batch);
        assert_eq!(batch, [0, 1, 2]);
        assert!(mailbox.is_empty());
        assert_eq!(mailbox.len(), 0);
    }

    #[test]
    fn full_mailbox_gives_the_item_back_and_takes_it_after_a_swap() {
        let mailbox = Mailbox::new(1);
        assert_eq!(mailbox.push('a'), Ok(()));
        assert_eq!(mailbox.push('b'), Err(Rejected::Full('b')));
        let mut batch = Vec::new();
        mailbox.swap_into(&mut batch);
        assert_eq!(mailbox.push('b'), Ok(()));
        assert_eq!(batch, ['a']);
    }

    #[test]
    fn reserved_push_passes_a_full_mailbox_but_not_a_closed_one() {
        let mailbox = Mailbox::new(0);
        assert_eq!(mailbox.push("data"), Err(Rejected::Full("data")));
        assert_eq!(mailbox.push_reserved("stop"), Ok(()));
        assert_eq!(mailbox.close(), ["stop"]);
        assert_eq!(mailbox.push_reserved("late"), Err(Rejected::Closed("late")));
    }

    #[test]
    fn close_returns_what_was_queued_once_and_refuses_the_rest() {
        let mailbox = Mailbox::new(8);
        mailbox.push(1).unwrap();
        mailbox.push(2).unwrap();
        assert_eq!(mailbox.close(), [1, 2]);
        assert!(mailbox.is_empty());
        assert_eq!(mailbox.push(3), Err(Rejected::Closed(3)));
        assert!(mailbox.close().is_empty());
    }

    #[test]
    fn steady_state_swaps_the_same_two_vectors() {
        let mailbox = Mailbox::new(8);
        let mut batch = Vec::new();
        let mut homes = Vec::new();
        for _ in 0..10 {
            (0..8).for_each(|item| mailbox.push(item).unwrap());
            mailbox.swap_into(&mut batch);
            assert_eq!(batch.len(), 8);
            homes.push(batch.as_ptr());
            batch.clear();
        }
        homes.sort_unstable();
        homes.dedup();
        assert_eq!(homes.len(), 2);
    }

    #[test]
    fn mailbox_works_on_after_a_panic_under_its_lock() {
        let mailbox = Mailbox::new(8);
        mailbox.push(1).unwrap();
        let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock(&mailbox.inner);
            panic!("poisons the lock on purpose");
        }));
        assert!(poisoned.is_err() && mailbox.inner.is_poisoned());
        assert_eq!(mailbox.push(2), Ok(()));
        assert_eq!(mailbox.close(), [1, 2]);
    }

    #[test]
    fn four_senders_lose_and_repeat_nothing_and_ring_at_most_once_a_sleep() {
        const SENDERS: usize = 4;
        const ITEMS: usize = 50_000;
        let (mailbox, flag) = (Mailbox::new(1024), WakeFlag::new());
        let (ringer, bell) = mpsc::channel();
        let rings = AtomicU64::new(0);
        let (mut sleeps, mut next) = (0, [0; SENDERS]);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (mailbox, flag, rings, ringer) = (&mailbox, &flag, &rings, ringer.clone());
                scope.spawn(move || {
                    for number in 0..ITEMS {
                        let mut item = (sender, number);
                        while let Err(rejected) = mailbox.push(item) {
                            let Rejected::Full(back) = rejected else { panic!("not closed") };
                            item = back;
                            thread::yield_now();
                        }
                        if flag.must_ring() {
                            rings.fetch_add(1, Ordering::Relaxed);
                            ringer.send(()).unwrap();
                        }
                    }
                });
            }
            let mut batch = Vec::new();
            while next.iter().sum::<usize>() < SENDERS * ITEMS {
                flag.begin_sleep();
                sleeps += 1;
                if mailbox.is_empty() {
                    bell.recv_timeout(Duration::from_secs(30)).expect("a wake-up was lost");
                }
                flag.end_sleep();
                mailbox.swap_into(&mut batch);
                for (sender, number) in batch.drain(..) {
                    assert_eq!(number, next[sender], "lost, repeated or out of order");
                    next[sender] += 1;
                }
            }
        });
        assert_eq!(next, [ITEMS; SENDERS]);
        assert!(mailbox.is_empty());
        let rings = rings.into_inner();
        assert!(rings <= sleeps, "{rings} rings for {sleeps} sleeps");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::model_with_few_preemptions;
    use super::super::wake::WakeFlag;
    use super::*;
    use loom::sync::{Arc, Notify};
    use loom::thread;

    #[test]
    fn sleeping_loop_gets_every_item_of_two_senders_once() {
        model_with_few_preemptions(|| {
            let post = Arc::new((Mailbox::new(8), WakeFlag::new(), Notify::new()));
            let senders: Vec<_> = (1..=2)
                .map(|item| {
                    let post = post.clone();
                    thread::spawn(move || {
                        let (mailbox, flag, bell) = &*post;
                        mailbox.push(item).unwrap();
                        if flag.must_ring() {
                            bell.notify();
                        }
                    })
                })
                .collect();
            let (mailbox, flag, bell) = &*post;
            let (mut batch, mut received) = (Vec::new(), Vec::new());
            while received.len() < 2 {
                flag.begin_sleep();
                if mailbox.is_empty() {
                    bell.wait();
                }
                flag.end_sleep();
                mailbox.swap_into(&mut batch);
                received.append(&mut batch);
            }
            received.sort_unstable();
            assert_eq!(received, [1, 2]);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            assert!(mailbox.is_empty());
        });
    }

    #[test]
    fn item_racing_close_is_either_taken_or_comes_back_closed() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::new(8));
            let senders: Vec<_> = (1..=2)
                .map(|item| {
                    let mailbox = mailbox.clone();
                    thread::spawn(move || match mailbox.push(item) {
                        Ok(()) => None,
                        Err(Rejected::Closed(item)) => Some(item),
                        Err(Rejected::Full(_)) => panic!("never full"),
                    })
                })
                .collect();
            let mut all = Vec::new();
            mailbox.swap_into(&mut all);
            all.extend(mailbox.close());
            assert!(mailbox.is_empty());
            all.extend(senders.into_iter().filter_map(|sender| sender.join().unwrap()));
            assert!(mailbox.is_empty(), "a closed mailbox stays empty");
            all.sort_unstable();
            assert_eq!(all, [1, 2]);
        });
    }

    #[test]
    fn of_two_senders_to_a_mailbox_of_one_exactly_one_is_refused() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::new(1));
            let other = mailbox.clone();
            let sender = thread::spawn(move || other.push(1).is_ok());
            let mine = mailbox.push(2).is_ok();
            assert!(mine != sender.join().unwrap());
            assert_eq!(mailbox.close(), [if mine { 2 } else { 1 }]);
        });
    }
}
