//! The limit on descriptors, which is the limit on connections.

/// Raises the limit as far as this process may. Where it may not, the limit is what it was, and the
/// server refuses what is above it.
pub fn allow_as_many_as_possible() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is valid, and read only.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}
