//! What is taken, what is refused and with which reason.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn fault(text: &str) -> AddressFault {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => panic!("{text:?} was taken for {endpoint:?}"),
        Err(error) => {
            assert_eq!(error.input(), text);
            error.fault()
        }
    }
}

fn resolved(text: &str) -> Vec<String> {
    endpoint(text).resolve().unwrap().iter().map(SocketAddr::to_string).collect()
}

#[test]
fn good_addresses_are_taken_and_shown_in_one_spelling() {
    for (text, shown) in [
        ("127.0.0.1:80", "tcp://127.0.0.1:80"),
        ("TCP://localhost:080", "tcp://localhost:80"),
        ("localhost:65535", "tcp://localhost:65535"),
        ("tcp://:9000", "tcp://:9000"),
        (":0", "tcp://:0"),
        ("[::1]:80", "tcp://[::1]:80"),
        ("udp6://[0:0:0:0:0:0:0:1]:80", "udp6://[::1]:80"),
        ("[fe80::1%eth0]:80", "tcp://[fe80::1%eth0]:80"),
        ("[fe80::1%2]:80", "tcp://[fe80::1%2]:80"),
        ("[fe80::1%0]:80", "tcp://[fe80::1]:80"),
        ("udp4://my_host-1.example.org.:53", "udp4://my_host-1.example.org.:53"),
        ("unix:///run/app.sock", "unix:///run/app.sock"),
        ("unix://relative/path with space", "unix://relative/path with space"),
    ] {
        assert_eq!(endpoint(text).to_string(), shown, "from {text:?}");
    }
}

#[test]
fn each_mistake_has_its_own_reason() {
    use AddressFault::*;
    for (text, expected) in [
        ("tulip://howdy", UnknownScheme),
        ("://localhost:80", UnknownScheme),
        (" tcp://localhost:80", UnknownScheme),
        ("howdy", MissingPort),
        ("", MissingPort),
        ("tcp://", MissingPort),
        ("localhost:", MissingPort),
        ("[::1]", MissingPort),
        ("[::1]:", MissingPort),
        (":foo", BadPort),
        (":65536", BadPort),
        (":99999999999999999999", BadPort),
        (":-1", BadPort),
        (":+80", BadPort),
        ("tcp://localhost:8080/foo", PathNotAllowed),
        ("tcp://localhost:8080/", PathNotAllowed),
        ("tcp://local\nhost:80", ForbiddenCharacter('\n')),
        ("localhost:80 ", ForbiddenCharacter(' ')),
        ("local\0host:80", ForbiddenCharacter('\0')),
        ("user@host:80", ForbiddenCharacter('@')),
        ("bücher.example:80", ForbiddenCharacter('ü')),
        ("*:80", Star),
        ("[::1:80", UnbalancedBrackets),
        ("::1]:80", UnbalancedBrackets),
        ("a[::1]:80", UnbalancedBrackets),
        ("[::1]80", UnbalancedBrackets),
        ("::1:80", UnbracketedIpv6),
        ("localhost:80:90", UnbracketedIpv6),
        ("256.1.1.1:80", BadIpv4),
        ("127.1:80", BadIpv4),
        ("2130706433:80", BadIpv4),
        ("0x7f000001:80", BadIpv4),
        ("127.0.0.01:80", BadIpv4),
        ("[127.0.0.1]:80", BadIpv6),
        ("[]:80", BadIpv6),
        ("[::1::2]:80", BadIpv6),
        ("[fe80::1%]:80", BadScope),
        ("[fe80::1%4294967296]:80", BadScope),
        ("[fe80::1%a%b]:80", BadScope),
        ("tcp4://[::1]:80", FamilyMismatch),
        ("udp6://127.0.0.1:80", FamilyMismatch),
        ("unix://", EmptyPath),
        ("unix:///a\0b", PathHasNul),
    ] {
        assert_eq!(fault(text), expected, "for {text:?}");
    }
}

#[test]
fn a_unix_path_may_be_as_long_as_the_system_takes_and_no_byte_longer() {
    let longest = format!("unix://{}", "x".repeat(MAX_UNIX_PATH));
    assert_eq!(endpoint(&longest).unix_path().unwrap().as_os_str().len(), MAX_UNIX_PATH);
    let length = MAX_UNIX_PATH + 1;
    let expected = AddressFault::PathTooLong { length, limit: MAX_UNIX_PATH };
    assert_eq!(fault(&format!("{longest}x")), expected);
}

#[test]
fn the_message_names_the_input_escaped_and_the_reason() {
    let error = "tcp://evil\nhost:80".parse::<Endpoint>().unwrap_err();
    let message = error.to_string();
    assert_eq!(message, r#"bad address "tcp://evil\nhost:80": a host has no character '\n'"#);
    let hint = "::1:80".parse::<Endpoint>().unwrap_err().to_string();
    assert!(hint.contains("[::1]:80"), "{hint}");
}

#[test]
fn a_wildcard_is_every_interface_of_the_families_asked_for() {
    assert_eq!(resolved(":80"), ["[::]:80", "0.0.0.0:80"]);
    assert_eq!(resolved("udp://:80"), ["[::]:80", "0.0.0.0:80"]);
    assert_eq!(resolved("tcp4://:80"), ["0.0.0.0:80"]);
    assert_eq!(resolved("udp6://:80"), ["[::]:80"]);
    for (text, only) in [
        ("tcp://:80", Some(false)),
        ("tcp://[::]:80", Some(false)),
        ("tcp6://:80", Some(true)),
        ("tcp6://[::]:80", Some(true)),
        ("tcp4://:80", None),
        ("tcp://[::1]:80", None),
    ] {
        assert_eq!(endpoint(text).ipv6_only(), only, "for {text}");
    }
    assert!(endpoint("0.0.0.0:80").is_wildcard());
    assert!(!endpoint("localhost:80").is_wildcard());
}

#[test]
fn an_address_in_numbers_resolves_to_itself() {
    assert_eq!(resolved("127.0.0.1:80"), ["127.0.0.1:80"]);
    assert_eq!(resolved("[fe80::1%7]:80"), ["[fe80::1%7]:80"]);
    let error = endpoint("unix://path").resolve().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[cfg(target_os = "linux")]
#[test]
fn a_scope_by_name_becomes_the_number_of_the_interface() {
    let address = endpoint("[fe80::1%lo]:80").resolve().unwrap()[0];
    assert!(matches!(address, SocketAddr::V6(v6) if v6.scope_id() > 0), "{address}");
    let error = endpoint("[fe80::1%nosuch]:80").resolve().unwrap_err();
    assert!(error.to_string().contains("nosuch"), "{error}");
}

#[test]
fn a_name_resolves_to_addresses_of_the_family_asked_for() {
    let ipv4 = endpoint("tcp4://localhost:80").resolve().unwrap();
    assert!(!ipv4.is_empty() && ipv4.iter().all(SocketAddr::is_ipv4), "{ipv4:?}");
    let all = endpoint("localhost:80").resolve().unwrap();
    assert!(all.iter().all(|address| address.ip().is_loopback()), "{all:?}");
}

#[test]
fn an_address_tells_its_parts_and_shows_itself() {
    let v4 = Address::from(SocketAddr::from(([127, 0, 0, 1], 80)));
    assert_eq!(v4.to_string(), "127.0.0.1:80");
    assert_eq!((v4.ip(), v4.port()), (Some(IpAddr::from([127, 0, 0, 1])), Some(80)));
    let v6 = Address::from(SocketAddr::from((Ipv6Addr::LOCALHOST, 80)));
    assert_eq!(v6.to_string(), "[::1]:80");
    let path: Arc<Path> = Path::new("/run/app.sock").into();
    let unix = Address::Unix(Some(path));
    assert_eq!(unix.to_string(), "unix:/run/app.sock");
    assert_eq!(unix.path(), Some(Path::new("/run/app.sock")));
    assert!(unix.is_unix() && unix.ip().is_none() && unix.port().is_none());
    assert_eq!(Address::Unix(None).to_string(), "unix:(unnamed)");
}

#[test]
fn an_ipv4_peer_of_a_dual_stack_socket_is_an_ipv4_address() {
    let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
    assert_eq!(Address::from(mapped).to_string(), "10.0.0.1:80");
}

/// The tokens of addresses, good and bad.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "tcp", "udp6", "tcp4", "unix", "://", ":", "::", "[", "]", "%", "/", "*", ".", "80", "0",
    "65536", "127.0.0.1", "fe80::1", "::1", "::ffff:1.2.3.4", "eth0", "localhost", "é", "\n",
    "0x1", "-", "99999999999",
];

/// Text that is nearly an address, so that the deep branches are reached too.
fn nearly_an_address() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..9).prop_map(|list| list.concat())
}

fn check_round_trip(text: &str) {
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint), "from {text:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_shown_parses_to_the_same(text in any::<String>()) {
        check_round_trip(&text);
        check_round_trip(&format!("unix://{text}"));
    }

    #[test]
    fn text_that_is_nearly_an_address_does_the_same(text in nearly_an_address()) {
        check_round_trip(&text);
    }
}
