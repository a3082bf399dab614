//! Limits of the system that a load can meet: descriptors.

/// Descriptors beside the connections: standard streams, wake-ups and pollers of the loops, files.
const OTHERS: usize = 32;
const OTHERS_PER_LOOP: usize = 8;

/// Makes sure that so many connections can be open, by raising the soft limit if need be.
pub fn check_descriptors(connections: usize, loops: usize) -> Result<(), String> {
    let needed = connections + OTHERS + OTHERS_PER_LOOP * loops;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Ok(()); // unknown: the system will tell when it is reached
    }
    if limit.rlim_cur >= needed as libc::rlim_t {
        return Ok(());
    }
    if limit.rlim_max < needed as libc::rlim_t {
        return Err(format!(
            "-c {connections}: needs {needed} descriptors, and this process may have {} at most; \
             raise the limit (`ulimit -Hn`, or LimitNOFILE= in systemd)",
            limit.rlim_max
        ));
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid value for the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(format!("-c {connections}: raising the limit of descriptors: {error}"));
    }
    Ok(())
}
