//! Which CPUs a thread runs on: one loop pinned to one core keeps its caches.

pub(crate) use platform::{available_cpus, pin_current_thread};

/// Linux and Android: a fixed `cpu_set_t`, which holds the first 1,024 CPUs.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use std::io;
    use std::mem;

    const CPU_LIMIT: usize = libc::CPU_SETSIZE as usize;

    /// Lets the calling thread run on the CPU `cpu` only.
    pub(crate) fn pin_current_thread(cpu: usize) -> io::Result<()> {
        if cpu >= CPU_LIMIT {
            let message = format!("there is no CPU {cpu}; the highest number is {}", CPU_LIMIT - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut set = empty_set();
        // SAFETY: `cpu` is below CPU_SETSIZE, so that the bit lies inside `set`.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: 0 is the calling thread, and the size is that of the set the pointer leads to.
        let result = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The CPUs that the calling thread may use, in ascending order; never empty.
    pub(crate) fn available_cpus() -> Vec<usize> {
        let mut set = empty_set();
        // SAFETY: 0 is the calling thread, and the size is that of the set the pointer leads to.
        let result = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) };
        // SAFETY: every `cpu` of the range is below CPU_SETSIZE, so that the bit lies inside `set`.
        let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
        let cpus: Vec<usize> = (0..CPU_LIMIT).filter(is_set).collect();
        // A machine with more CPUs than the set holds refuses the call.
        if result != 0 || cpus.is_empty() { super::counted_cpus() } else { cpus }
    }

    fn empty_set() -> libc::cpu_set_t {
        // SAFETY: `cpu_set_t` is an array of integers, for which all bits zero is a value.
        unsafe { mem::zeroed() }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod platform {
    use std::io;

    /// Lets the calling thread run on the CPU `cpu` only: not to be had on this system.
    pub(crate) fn pin_current_thread(_cpu: usize) -> io::Result<()> {
        Err(crate::sys::unsupported("pin_loops: pinning a thread to a CPU"))
    }

    /// The CPUs that this process may use, in ascending order; never empty.
    pub(crate) fn available_cpus() -> Vec<usize> {
        super::counted_cpus()
    }
}

fn counted_cpus() -> Vec<usize> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    (0..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_at_least_one_cpu_and_each_is_listed_once() {
        let cpus = available_cpus();
        assert!(!cpus.is_empty());
        assert!(cpus.is_sorted_by(|a, b| a < b), "{cpus:?}");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_pinned_thread_has_that_one_cpu_left() {
        let before = available_cpus();
        let last = *before.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_current_thread(last).unwrap();
            available_cpus()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert_eq!(available_cpus(), before, "another thread was pinned too");
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_an_error() {
        assert!(pin_current_thread(1023).is_err());
        assert!(pin_current_thread(usize::MAX).is_err());
    }
}
