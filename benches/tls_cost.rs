//! What TLS on tightloop costs beyond TLS: CPU time of the server's thread per echoed record,
//! against a bare level-triggered epoll loop that makes the same calls of rustls, in the same run.
//!
//! ```text
//! cargo bench --features tls --bench tls_cost -- --rounds 10 --seconds 2 --bytes 16384
//! ```
//!
//! TLS 1.3, 8 connections, each with one message of so many bytes in flight, every byte checked. The
//! order of the rounds and the control are those of `echo_cost`.

// The bench talks to the kernel itself (epoll, affinity, thread ids), so that what it compares
// against is bare; each block says why it is sound.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "each bench uses its own part")]
mod support;
#[cfg(target_os = "linux")]
mod tls_support;

#[cfg(target_os = "linux")]
fn main() {
    tls_support::run();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("tls_cost reads /proc and compares with epoll: it runs on Linux only");
}
