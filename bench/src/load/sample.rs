//! What the kernel knows about a process: CPU time, memory, context switches.

use std::fs;
use std::io;

/// A process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// CPU time of all its threads that live. The kernel brings it up to date when a thread is
    /// switched out and at each tick (4 ms): exact enough for windows of seconds.
    pub cpu_ns: u64,
    /// Resident memory.
    pub rss_kib: u64,
    /// Voluntary and involuntary, of all threads.
    pub context_switches: u64,
}

/// Looks at a process; `process` is its number, or `self`.
///
/// # Errors
/// The system's, above all that there is no such process.
pub fn sample(process: &str) -> io::Result<Sample> {
    let mut sample = Sample::default();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        // A thread may end between the listing and the reading.
        let Ok(schedstat) = fs::read_to_string(task.join("schedstat")) else { continue };
        sample.cpu_ns += first_number(&schedstat);
        let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
        for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" => {
                    sample.context_switches += first_number(value);
                }
                // The same for all threads: it is the process that has memory.
                "VmRSS" => sample.rss_kib = first_number(value),
                _ => {}
            }
        }
    }
    Ok(sample)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_cpu_time() {
        let before = sample("self").unwrap();
        assert!(before.rss_kib > 0);
        let mut after = before;
        while after.cpu_ns <= before.cpu_ns {
            std::hint::black_box((0..100_000u64).sum::<u64>());
            after = sample("self").unwrap();
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(sample("0").is_err());
    }
}
