//! Wakes a loop when a request is due. The loop's own timers count milliseconds; at a low rate
//! nothing else would wake it in time.
//!
//! A thread sleeps until the next request is due and rings the loop. A loop that is busy sends what is
//! due by itself, behind each reply, and is not rung.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tightloop::{HandleError, LoopHandle};

use super::clock::Clock;
use super::shared::{Load, LoopCounters};

/// Requests that are due within this time are sent together. With what it takes to wake two threads
/// it makes the resolution of the schedule: some 100 us.
const RESOLUTION: Duration = Duration::from_micros(50);
/// So often it is looked whether there is something to wait for.
const GLANCE: Duration = Duration::from_millis(1);

/// The threads, until it is dropped.
pub struct Pacer {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pacer {
    /// A thread for each loop.
    pub fn start<H: Load>(
        loops: impl Iterator<Item = (LoopHandle<H>, Arc<LoopCounters>)>,
        clock: Clock,
    ) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let threads = loops
            .map(|(handle, counters)| {
                let ends = Arc::clone(&ends);
                std::thread::spawn(move || pace(&handle, &counters, clock, &ends))
            })
            .collect();
        Pacer { ends, threads }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that has panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

fn pace<H: Load>(handle: &LoopHandle<H>, counters: &LoopCounters, clock: Clock, ends: &AtomicBool) {
    sleep_precisely();
    while !ends.load(Ordering::Relaxed) {
        let due_ns = counters.next_due_ns();
        let wait = Duration::from_nanos(due_ns.saturating_sub(clock.now_ns()));
        if wait > Duration::ZERO {
            std::thread::sleep(wait.clamp(RESOLUTION, GLANCE));
            continue;
        }
        let rung = handle.execute(|handler, cx| handler.send_due(cx));
        if rung == Err(HandleError::Closed) {
            return;
        }
        std::thread::sleep(RESOLUTION);
    }
}

/// Linux lets a thread sleep 50 us longer than it has asked for, to save power.
fn sleep_precisely() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes numbers only, and is about the calling thread.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong);
    }
}
