//! `WakeFlag`: does the loop sleep, so that a sender has to ring it?
//!
//! Ringing is a system call. A sender makes it only when the loop sleeps or is about to, and of
//! many senders only one does:
//!
//! ```text
//!            begin_sleep                        must_ring: ring (one sender)
//!   AWAKE ----------------> ASLEEP ----------------------------------------> AWAKE
//!     |  ^                     |
//!     +--+ must_ring: no ring  +--- end_sleep ---> AWAKE
//! ```
//!
//! Loop: `begin_sleep`, look into every mailbox, block only if all are empty, `end_sleep`, empty
//! the mailboxes. Sender: push, then ring if `must_ring` says so.
//!
//! # Why no wake-up is lost
//!
//! This is Dekker's pattern: each side writes its own word (the loop the flag, the sender the
//! mailbox) and then reads the other's. Lost would be an item whose sender saw AWAKE while the
//! loop, looking after `begin_sleep`, saw an empty mailbox. It cannot be:
//!
//! Every write to the flag is a swap, so all of them stand in one order and each reads what the one
//! before it wrote. Take a sender's swap S and any `begin_sleep` B of the loop:
//! - S before B: B acquires what S released, through any number of swaps between (a swap carries a
//!   release sequence on, a plain store would cut it). The push came before S, so the look after B
//!   sees it.
//! - B before S, and S reads ASLEEP: its sender rings.
//! - B before S, and S reads AWAKE: a swap between them ended the sleep. If another sender's was
//!   the first, that one rings. If the loop's own `end_sleep` was, the loop does not sleep, and
//!   before it blocks it passes another `begin_sleep`, which stands to S in one of these three
//!   ways.
//!
//! That is why `begin_sleep` and `end_sleep` swap although nobody needs the value they replace.
//! Sequentially consistent stores would serve as well, but loom, which checks this file, treats
//! them as mere acquire and release and would report a lost wake-up that is not one.
//!
//! # The ring that comes early or late
//!
//! A sender may swap while the loop is between `begin_sleep` and its poll. The flag then says AWAKE
//! although the loop is about to block, and later senders do not ring; they need not, since the
//! first one's ring is remembered by the driver (an eventfd, a pipe) and makes the poll return at
//! once. If the loop found mail and did not block, that same ring makes a later poll return for
//! nothing: once.

use super::primitives::{AtomicBool, Ordering};

/// Says whether the loop sleeps and must be rung. See the module for the protocol.
#[derive(Debug)]
pub(crate) struct WakeFlag {
    asleep: AtomicBool,
}

impl WakeFlag {
    /// A flag of a loop that is awake.
    pub(crate) fn new() -> WakeFlag {
        WakeFlag { asleep: AtomicBool::new(false) }
    }

    /// Loop: announces that it is about to block. It must look into its mailboxes after this call
    /// and before it blocks.
    pub(crate) fn begin_sleep(&self) {
        self.asleep.swap(true, Ordering::AcqRel);
    }

    /// Loop: does not sleep, or no longer. It must empty its mailboxes after this call or pass
    /// through `begin_sleep` and its look again.
    pub(crate) fn end_sleep(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }

    /// Sender, after its push: true if it is the one that has to ring the loop.
    #[must_use = "the loop sleeps on if nobody rings"]
    pub(crate) fn must_ring(&self) -> bool {
        self.asleep.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn busy_loop_is_never_rung() {
        let flag = WakeFlag::new();
        assert!((0..1000).all(|_| !flag.must_ring()));
    }

    #[test]
    fn sleeping_loop_is_rung_once_by_a_thousand_senders() {
        let flag = WakeFlag::new();
        flag.begin_sleep();
        let rings = (0..1000).filter(|_| flag.must_ring()).count();
        assert_eq!(rings, 1);
    }

    #[test]
    fn loop_that_woke_by_itself_is_not_rung() {
        let flag = WakeFlag::new();
        flag.begin_sleep();
        flag.end_sleep();
        assert!(!flag.must_ring());
    }

    #[test]
    fn each_sleep_is_rung_anew() {
        let flag = WakeFlag::new();
        for _ in 0..3 {
            flag.begin_sleep();
            assert!(flag.must_ring());
            flag.end_sleep();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::model_with_few_preemptions;
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Notify};
    use loom::thread;

    /// The mailbox is a relaxed counter, so that nothing but the flag can order it: the proof of
    /// the module stands without the help of a lock. A lost wake-up is a deadlock, which loom
    /// reports.
    #[test]
    fn relaxed_mail_of_two_senders_is_always_seen() {
        model_with_few_preemptions(|| {
            let flag = Arc::new(WakeFlag::new());
            let mail = Arc::new(AtomicUsize::new(0));
            let bell = Arc::new(Notify::new());
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (flag, mail, bell) = (flag.clone(), mail.clone(), bell.clone());
                    thread::spawn(move || {
                        mail.fetch_add(1, Ordering::Relaxed);
                        if flag.must_ring() {
                            bell.notify();
                        }
                    })
                })
                .collect();
            let mut seen = 0;
            while seen < 2 {
                flag.begin_sleep();
                if mail.load(Ordering::Relaxed) == seen {
                    bell.wait();
                }
                flag.end_sleep();
                seen = mail.load(Ordering::Relaxed);
            }
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    #[test]
    fn one_sleep_is_rung_by_at_most_one_of_two_senders() {
        loom::model(|| {
            let flag = Arc::new(WakeFlag::new());
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let flag = flag.clone();
                    thread::spawn(move || flag.must_ring())
                })
                .collect();
            flag.begin_sleep();
            let rings = senders.into_iter().filter_map(|s| s.join().unwrap().then_some(())).count();
            let unrung = flag.must_ring();
            assert!(rings <= 1);
            assert_eq!(unrung, rings == 0, "asleep exactly until the first swap");
        });
    }
}
