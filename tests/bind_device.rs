//! Binding to a network device: what comes or goes by another is not for us.
#![cfg(target_os = "linux")]

mod closures;
mod common;
mod outgoing;
mod packets;

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use closures::{Script, TCP};
use outgoing::{Told, connect_as, failure, reporting};
use packets::UDP;
use tightloop::{CloseReason, Connect, Error, Interface};

/// A device that is not the loopback; where there is none, that is printed.
fn another_device() -> Option<String> {
    let entries = std::fs::read_dir("/sys/class/net").expect("Linux");
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found = names.find(|name| name != "lo" && !name.contains("bonding"));
    if found.is_none() {
        println!("skipped: there is no other device than the loopback");
    }
    found
}

every_driver! {
    fn a_server_bound_to_the_loopback_serves_what_comes_by_it(driver) {
        for device in [Interface::from("lo"), Interface::from(1)] {
            let server = common::server(driver).bind_device(device.clone());
            let server = server.listen(TCP).listen(UDP).listen("tcp://:0").listen("udp6://:0");
            let server = server.on_listener_socket(|socket| {
                assert_eq!(socket.device()?.as_deref(), Some(&b"lo"[..]));
                Ok(())
            });
            let server = common::start(server, |_| Script::new());
            let mut stream = common::connect(common::address(&server, 0));
            assert_eq!(common::exchange(&mut stream, b"hello"), b"hello", "{device}");
            let client = packets::client("127.0.0.1:0");
            client.send_to(b"hello", common::address(&server, 1)).unwrap();
            assert_eq!(packets::receive(&client).0, b"hello", "{device}");
            common::stop(server);
        }
    }

    fn a_server_bound_to_another_device_is_not_there_on_the_loopback(driver) {
        let Some(device) = another_device() else { return };
        let server = common::server(driver).bind_device(device).reuse_port(true).loops(2);
        let server = common::start(server.listen("tcp4://:0").listen("udp4://:0"), |_| Script::new());
        let port = common::address(&server, 0).port();
        let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let client = packets::client("127.0.0.1:0");
        client.connect(("127.0.0.1", common::address(&server, 1).port())).unwrap();
        client.send(b"hello").unwrap();
        // The system answers at once that nobody is there.
        assert_eq!(client.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        common::stop(server);
    }

    fn a_device_that_is_not_there_fails_the_start(driver) {
        for device in [Interface::from("no-such-device"), Interface::from("a name that is far too long"), Interface::from(4_000)] {
            for url in [TCP, UDP, "tcp://:0"] {
                let server = common::server(driver).bind_device(device.clone()).listen(url);
                match server.start(|_| Script::new()).err() {
                    Some(Error::Listen { source, .. }) => {
                        assert_eq!(source.kind(), ErrorKind::AddrNotAvailable, "{source}");
                        assert!(source.to_string().contains(&device.to_string()), "{source}");
                    }
                    other => panic!("{device} on {url}: {other:?}"),
                }
            }
        }
        let server = common::server(driver).bind_device(std::net::Ipv4Addr::LOCALHOST).listen(TCP);
        let error = server.start(|_| Script::new()).expect_err("an address is no device");
        assert!(error.to_string().contains("name or number, not 127.0.0.1"), "{error}");
    }

    fn an_outgoing_connection_leaves_by_its_device(driver) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = |url: String| Connect::to(&url.parse().unwrap());
        let at = listener.local_addr().unwrap();
        let (server, events) = reporting(common::server(driver));
        let id = connect_as(&server, to(format!("tcp://{at}")).bind_device("lo"));
        assert!(matches!(events.next(), Told::Opened { id: opened, .. } if opened == id));
        let mut stream = listener.accept().unwrap().0;
        assert_eq!(common::read(&mut stream, 8), b"greeting");
        let peer = packets::client("127.0.0.1:0");
        let datagrams = format!("udp://{}", peer.local_addr().unwrap());
        let id = connect_as(&server, to(datagrams.clone()).bind_device(1));
        assert!(matches!(events.next(), Told::Opened { id: opened, .. } if opened == id));
        assert_eq!(packets::receive(&peer).0, b"greeting");
        let (nowhere, nowhere_events) = reporting(common::server(driver));
        for url in [format!("tcp://{at}"), datagrams] {
            let id = connect_as(&nowhere, to(url).bind_device("no-such-device"));
            match failure(&nowhere_events, id) {
                CloseReason::ConnectFailed(error) => {
                    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
                    assert!(error.to_string().contains("no-such-device"), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        common::stop(nowhere);
        common::stop(server);
    }

    fn a_unix_socket_has_no_device(driver) {
        let client = common::client(driver).start(|_| Script::new()).unwrap();
        let unix: tightloop::Endpoint = "unix:///tmp/never".parse().unwrap();
        let refused = client.connect(Connect::to(&unix).bind_device("lo"));
        assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
        client.stop();
        client.join().unwrap();
    }
}
