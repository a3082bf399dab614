//! What an echo costs the server: CPU time of the server's thread per operation, tightloop against
//! a bare level-triggered epoll loop, in the same run, on the readiness driver and on io_uring.
//!
//! ```text
//! cargo bench --bench echo_cost -- --rounds 10 --seconds 2 --workload echo
//! ```
//!
//! Each round starts a fresh server thread on CPU 0 and drives it from this thread on CPU 1. The
//! rounds alternate (A B C, C B A, ...), where C is the bare loop once more: the ratio of the bare
//! loop to itself shows what the machine can resolve at the time.

// The bench talks to the kernel itself (epoll, affinity, thread ids), so that what it compares
// against is bare; each block says why it is sound.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "each bench uses its own part")]
mod support;

#[cfg(target_os = "linux")]
fn main() {
    support::run();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("echo_cost reads /proc and compares with epoll: it runs on Linux only");
}
