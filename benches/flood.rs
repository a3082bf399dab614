//! What a flooding peer does to a quiet one: the quiet connection's latency with and without it,
//! in the same run.
//!
//! ```text
//! cargo bench --bench flood -- --rounds 10 --seconds 1
//! ```
//!
//! The server's one loop is on CPU 0, all clients are on CPU 1. The quiet client sends 64 bytes
//! every now and then and waits for them; the flooding one writes and reads as fast as it can.
//! Rounds alternate: quiet, flooded, flooded, quiet. The same against a bare level-triggered epoll
//! loop shows what of it the machine costs.

// The bench talks to the kernel itself, as echo_cost does.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "each bench uses its own part")]
mod support;

#[cfg(target_os = "linux")]
fn main() {
    support::flood::run();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("flood pins threads to CPUs and compares with epoll: it runs on Linux only");
}
