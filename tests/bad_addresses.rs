//! Addresses that cannot be listened on: the error names address and reason, and a start that
//! failed leaves nothing behind.

mod closures;
mod common;

use std::net::{TcpListener, UdpSocket};

use closures::{Directory, Script, TCP, alone, wait_for_the_end_of_threads};
use tightloop::{AddressFault, Error, MAX_UNIX_PATH, Server};

/// The error of a start that must fail.
fn refusal(server: Server) -> Error {
    match server.start(|_| Script::new()) {
        Ok(_) => panic!("the server started"),
        Err(error) => error,
    }
}

/// The fault that the text of an address has; the message names both.
fn fault(server: Server, url: &str) -> AddressFault {
    let error = refusal(server.listen(url));
    let Error::Address(address) = &error else {
        panic!("{url:?}: {error:?}");
    };
    assert_eq!(address.input(), url);
    let text = error.to_string();
    assert!(text.contains(&format!("{url:?}")) && !text.contains('\n'), "{text}");
    assert!(text.contains(&address.fault().to_string()), "{text}");
    address.fault()
}

/// Fails to listen on `url` after it was understood; the message names it and the reason.
fn listen_error(server: Server, url: &str) -> std::io::Error {
    let error = refusal(server.listen(url));
    let text = error.to_string();
    let Error::Listen { address, source } = error else {
        panic!("{url}: {text}");
    };
    assert_eq!(address, url);
    assert!(text.contains(url) && text.contains(&source.to_string()), "{text}");
    source
}

/// The files this process has open.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

every_driver! {
    fn text_that_is_no_address_is_refused_with_the_text_and_the_reason(driver) {
        let too_long = format!("unix:///{}", "x".repeat(MAX_UNIX_PATH));
        let limit = MAX_UNIX_PATH;
        for (url, expected) in [
            ("tulip://howdy", AddressFault::UnknownScheme),
            ("://127.0.0.1:80", AddressFault::UnknownScheme),
            ("howdy", AddressFault::MissingPort),
            ("", AddressFault::MissingPort),
            ("tcp://", AddressFault::MissingPort),
            ("udp://", AddressFault::MissingPort),
            ("tcp://localhost:8080/foo", AddressFault::PathNotAllowed),
            ("tcp://localhost:8080/", AddressFault::PathNotAllowed),
            ("unix://", AddressFault::EmptyPath),
            ("unix:///tmp/\0", AddressFault::PathHasNul),
            (":foo", AddressFault::BadPort),
            (":65536", AddressFault::BadPort),
            (":-1", AddressFault::BadPort),
            ("tcp://127.0.0.1:", AddressFault::MissingPort),
            ("tcp://local\nhost:80", AddressFault::ForbiddenCharacter('\n')),
            ("tcp://127.0.0.1:80\n", AddressFault::ForbiddenCharacter('\n')),
            (" 127.0.0.1:80", AddressFault::ForbiddenCharacter(' ')),
            ("tcp://*:80", AddressFault::Star),
            ("tcp://::1:80", AddressFault::UnbracketedIpv6),
            ("tcp://[::1:80", AddressFault::UnbalancedBrackets),
            ("tcp://[::g]:80", AddressFault::BadIpv6),
            ("tcp://256.0.0.1:80", AddressFault::BadIpv4),
            ("tcp4://[::1]:80", AddressFault::FamilyMismatch),
            ("tcp6://127.0.0.1:80", AddressFault::FamilyMismatch),
            (&too_long, AddressFault::PathTooLong { length: limit + 1, limit }),
        ] {
            assert_eq!(fault(common::server(driver), url), expected, "{url:?}");
        }
    }

    fn a_port_in_use_is_an_error_and_its_owner_goes_on(driver) {
        let owner = common::start(common::server(driver).listen(TCP), |_| Script::new());
        let to = common::address(&owner, 0);
        let url = format!("tcp://{to}");
        for server in [common::server(driver), common::server(driver).loops(2).reuse_port(common::SPREADS)] {
            let error = listen_error(server, &url);
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        }
        assert_eq!(common::exchange(&mut common::connect(to), b"still"), b"still");
        common::stop(owner);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("udp://{}", socket.local_addr().unwrap());
        let error = listen_error(common::server(driver), &url);
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }

    fn a_server_does_not_take_its_own_port_twice(driver) {
        let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("tcp://{to}");
        let error = listen_error(common::server(driver).listen(&*url), &url);
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }

    fn an_address_that_is_not_of_this_host_is_an_error(driver) {
        let error = listen_error(common::server(driver), "tcp://192.0.2.1:0");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
        let error = listen_error(common::server(driver), "udp://[2001:db8::1]:0");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
    }

    fn a_name_without_an_address_is_an_error_that_tells_the_name(driver) {
        let error = listen_error(common::server(driver), "tcp://no-such-host.invalid:80");
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }

    #[cfg(unix)]
    fn a_directory_that_does_not_exist_is_an_error(driver) {
        let directory = Directory::new();
        let (_, url) = directory.socket("missing/socket");
        let error = listen_error(common::server(driver), &url);
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn a_start_that_failed_leaves_no_port_no_thread_no_file_and_no_path(driver) {
        if !alone(driver, "a_start_that_failed_leaves_no_port_no_thread_no_file_and_no_path") {
            return;
        }
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = format!("tcp://{}", owner.local_addr().unwrap());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let before = open_files();
        for bad in [&*taken, "howdy", "tulip://howdy"] {
            for loops in [1, 3] {
                let server = common::server(driver).loops(loops).reuse_port(loops > 1 && common::SPREADS);
                let server = server.listen(format!("tcp://{tcp}"));
                let server = server.listen(format!("udp://{udp}")).listen(&*url).listen(bad);
                refusal(server);
                wait_for_the_end_of_threads();
                assert!(!path.exists(), "the path stays behind");
                assert_eq!(open_files(), before, "a descriptor stays open");
                TcpListener::bind(tcp).expect("the TCP port is free");
                UdpSocket::bind(udp).expect("the UDP port is free");
            }
        }
        drop(owner);
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn a_server_that_ended_leaves_no_thread_and_no_file(driver) {
        if !alone(driver, "a_server_that_ended_leaves_no_thread_and_no_file") {
            return;
        }
        let before = open_files();
        for loops in [1, 2, 1, 2] {
            let directory = Directory::new();
            let (_, url) = directory.socket("socket");
            let server = common::server(driver).loops(loops).listen(TCP).listen(url);
            let server = common::start(server.listen("udp://127.0.0.1:0"), |_| Script::new());
            let mut client = common::connect(common::address(&server, 0));
            assert_eq!(common::exchange(&mut client, b"here"), b"here");
            drop(client);
            common::stop(server);
            wait_for_the_end_of_threads();
            assert_eq!(open_files(), before, "a descriptor stays open");
        }
    }
}
