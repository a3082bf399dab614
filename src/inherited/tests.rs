//! Variables as others set them, and what is wrong with some.

use super::*;

fn kind(result: io::Result<Inherited>) -> io::ErrorKind {
    result.expect_err("it is wrong").kind()
}

#[test]
fn what_another_process_was_given_is_left_alone() {
    for (count, pid) in [
        (None, None),
        (None, Some("7")),
        (Some("1"), None),
        (Some("1"), Some("8")),
        (Some("1"), Some("")),
        (Some("0"), Some("7")),
    ] {
        let inherited = from_systemd([count, pid, None], 7).unwrap();
        assert_eq!(inherited.names().count(), 0, "{count:?} {pid:?}");
        assert!(!inherited.is_successor());
    }
}

#[test]
fn counts_that_are_none_are_refused() {
    for count in ["", "x", "-1", "1.5", "2147483647"] {
        let error = kind(from_systemd([Some(count), Some("7"), None], 7));
        assert_eq!(error, io::ErrorKind::InvalidData, "{count:?}");
    }
}

#[test]
fn lines_that_cannot_be_understood_are_refused_and_nothing_is_taken() {
    for told in ["", "x", "-1", "99999999999", "1 2"] {
        assert_eq!(kind(from_predecessor(told)), io::ErrorKind::InvalidData, "{told:?}");
    }
    // Nobody has opened that many.
    assert_eq!(kind(from_predecessor("1000000")), io::ErrorKind::NotFound);
    assert_eq!(kind(from_predecessor("0")), io::ErrorKind::NotFound);
}

#[test]
fn what_was_opened_here_cannot_be_taken() {
    use std::os::fd::AsRawFd;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let told = listener.as_raw_fd().to_string();
    assert_eq!(kind(from_predecessor(&told)), io::ErrorKind::AlreadyExists);
    assert!(listener.local_addr().is_ok(), "it is still open");
}
