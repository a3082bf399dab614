//! Where a server listens: every form of URL, several at once, listeners that exist already.

mod closures;
mod common;

use std::io::{Read, Write};
#[cfg(unix)]
use std::net::TcpListener;
use std::net::{SocketAddr, TcpStream, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};

#[cfg(unix)]
use closures::Directory;
use closures::{Script, TCP};
use tightloop::{Action, RunningServer, Server};
#[cfg(unix)]
use tightloop::{Address, MAX_UNIX_PATH};

/// A server that tells each client its peer address and the address it reached, in one line.
fn telling(server: Server) -> RunningServer<Script> {
    common::start(server, |_| {
        Script::new()
            .open(|conn| {
                let line = format!("{} {}\n", conn.peer_addr(), conn.local_addr().unwrap());
                conn.write(line.as_bytes());
            })
            .datagram(|datagram| {
                let line = format!("{} {}\n", datagram.peer_addr(), datagram.local_addr());
                datagram.reply(line.as_bytes());
                Action::Continue
            })
    })
}

/// The line that the server tells.
fn line(stream: &mut impl Read) -> String {
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push(common::read(stream, 1)[0].into());
    }
    line
}

/// What the server must tell a TCP client that connects to `to`.
fn check_tcp(to: SocketAddr) {
    let mut client = common::connect(to);
    let expected = format!("{} {}\n", client.local_addr().unwrap(), to);
    assert_eq!(line(&mut client), expected);
    assert_eq!(common::exchange(&mut client, b"and back"), b"and back");
}

/// The same over UDP.
fn check_udp(to: SocketAddr) {
    let client = UdpSocket::bind((to.ip(), 0)).unwrap();
    client.set_read_timeout(Some(common::DEADLINE)).unwrap();
    client.send_to(b"?", to).unwrap();
    let mut buffer = [0; 200];
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    let expected = format!("{} {}\n", client.local_addr().unwrap(), to);
    assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
    assert_eq!(from, to);
}

#[cfg(unix)]
fn check_unix(path: &std::path::Path) {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(common::DEADLINE)).unwrap();
    assert_eq!(line(&mut client), format!("unix:(unnamed) unix:{}\n", path.display()));
    client.write_all(b"and back").unwrap();
    assert_eq!(common::read(&mut client, 8), b"and back");
}

fn loopback4(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn loopback6(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))
}

every_driver! {
    fn each_form_of_a_tcp_url_serves_and_port_0_is_resolved(driver) {
        for url in [TCP, "127.0.0.1:0", "tcp4://127.0.0.1:0", "tcp4://localhost:0", "TCP://127.0.0.1:0"] {
            let server = telling(common::server(driver).listen(url));
            let to = common::address(&server, 0);
            assert!(to.port() > 0 && to.ip() == loopback4(0).ip(), "{url} is {to}");
            check_tcp(to);
            common::stop(server);
        }
        for url in ["tcp://[::1]:0", "[::1]:0", "tcp6://[::1]:0"] {
            let server = telling(common::server(driver).listen(url));
            let to = common::address(&server, 0);
            assert!(to.port() > 0 && to.ip() == loopback6(0).ip(), "{url} is {to}");
            check_tcp(to);
            common::stop(server);
        }
    }

    fn a_wildcard_serves_both_families_and_shows_ipv4_peers_as_such(driver) {
        for url in ["tcp://:0", ":0", "tcp://[::]:0"] {
            let server = telling(common::server(driver).listen(url));
            let port = common::address(&server, 0).port();
            check_tcp(loopback4(port));
            check_tcp(loopback6(port));
            common::stop(server);
        }
    }

    fn a_wildcard_of_one_family_leaves_the_other_alone(driver) {
        let server = telling(common::server(driver).listen("tcp4://:0").listen("tcp6://:0"));
        let [port4, port6] = [0, 1].map(|n| common::address(&server, n).port());
        check_tcp(loopback4(port4));
        check_tcp(loopback6(port6));
        assert!(TcpStream::connect(loopback6(port4)).is_err());
        assert!(TcpStream::connect(loopback4(port6)).is_err());
        common::stop(server);
    }

    fn the_same_port_takes_one_listener_of_each_family(driver) {
        let first = telling(common::server(driver).listen("tcp4://:0"));
        let port = common::address(&first, 0).port();
        let second = telling(common::server(driver).listen(format!("tcp6://:{port}")));
        check_tcp(loopback4(port));
        check_tcp(loopback6(port));
        common::stop(first);
        common::stop(second);
    }

    fn the_option_keeps_a_wildcard_to_ipv6(driver) {
        // The same port of IPv4 may be given to another test.
        common::at_best(|| {
            let server = telling(common::server(driver).ipv6_only(true).listen("tcp://:0"));
            let port = common::address(&server, 0).port();
            check_tcp(loopback6(port));
            assert!(TcpStream::connect(loopback4(port)).is_err());
            common::stop(server);
        });
    }

    #[cfg_attr(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")), ignore = "the system does not tell the address")]
    fn each_form_of_a_udp_url_serves(driver) {
        for url in ["udp://127.0.0.1:0", "udp4://127.0.0.1:0", "udp4://:0", "udp://0.0.0.0:0"] {
            let server = telling(common::server(driver).listen(url));
            check_udp(loopback4(common::address(&server, 0).port()));
            common::stop(server);
        }
        for url in ["udp://[::1]:0", "udp6://[::1]:0", "udp6://:0"] {
            let server = telling(common::server(driver).listen(url));
            check_udp(loopback6(common::address(&server, 0).port()));
            common::stop(server);
        }
        let server = telling(common::server(driver).listen("udp://:0"));
        let port = common::address(&server, 0).port();
        check_udp(loopback4(port));
        check_udp(loopback6(port));
        common::stop(server);
    }

    #[cfg(unix)]
    fn a_unix_path_serves_absolute_and_relative(driver) {
        let directory = Directory::new();
        let path = directory.0.join("socket");
        let mut relative = std::path::PathBuf::new();
        for _ in std::env::current_dir().unwrap().components().skip(1) {
            relative.push("..");
        }
        relative.push(path.strip_prefix("/").unwrap());
        for asked in [&path, &relative] {
            let url = format!("unix://{}", asked.display());
            let server = telling(common::server(driver).listen(url));
            assert_eq!(server.local_addrs()[0].path(), Some(asked.as_path()));
            assert!(path.exists());
            check_unix(asked);
            common::stop(server);
            assert!(!path.exists(), "the path stays behind");
        }
    }

    #[cfg(unix)]
    fn the_longest_unix_path_works(driver) {
        let directory = Directory::new();
        let room = MAX_UNIX_PATH - directory.0.as_os_str().len() - 1;
        let path = directory.0.join("x".repeat(room));
        assert_eq!(path.as_os_str().len(), MAX_UNIX_PATH);
        let server = telling(common::server(driver).listen(format!("unix://{}", path.display())));
        check_unix(&path);
        common::stop(server);
        assert!(!path.exists());
    }

    #[cfg(unix)]
    fn listeners_of_all_kinds_serve_at_once_in_the_order_they_were_given(driver) {
        for loops in [1, 2] {
            let directory = Directory::new();
            let paths = ["a", "b"].map(|name| directory.0.join(name));
            let mut server = common::server(driver).loops(loops);
            for path in &paths {
                server = server.listen("tcp://127.0.0.1:0").listen("udp://127.0.0.1:0");
                server = server.listen(format!("unix://{}", path.display()));
                server = server.listen("tcp://[::1]:0").listen("udp://[::1]:0");
            }
            let server = telling(server);
            assert_eq!(server.local_addrs().len(), 10);
            for (n, path) in paths.iter().enumerate() {
                check_tcp(common::address(&server, 5 * n));
                check_udp(common::address(&server, 5 * n + 1));
                assert_eq!(server.local_addrs()[5 * n + 2], Address::Unix(Some(path.as_path().into())));
                check_unix(path);
                check_tcp(common::address(&server, 5 * n + 3));
                check_udp(common::address(&server, 5 * n + 4));
            }
            common::stop(server);
        }
    }

    #[cfg(unix)]
    fn listeners_that_exist_already_are_served(driver) {
        for loops in [1, 2] {
            let directory = Directory::new();
            let path = directory.0.join("given");
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
            let unix = UnixListener::bind(&path).unwrap();
            let ports = [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()];
            // Clients that came before the server did are served as well.
            let mut early = common::connect(loopback4(ports[0]));
            let server = common::server(driver).loops(loops).listen_on_tcp(tcp);
            let server = telling(server.listen_on_udp(udp).listen_on_unix(unix));
            assert_eq!([0, 1].map(|n| common::address(&server, n).port()), ports);
            assert_eq!(server.local_addrs()[2].path(), Some(path.as_path()));
            assert!(line(&mut early).starts_with("127.0.0.1:"));
            drop(early);
            check_tcp(loopback4(ports[0]));
            check_udp(loopback4(ports[1]));
            check_unix(&path);
            common::stop(server);
            assert!(path.exists(), "the path of a listener that was given is its giver's");
            assert!(TcpStream::connect(loopback4(ports[0])).is_err(), "it still listens");
        }
    }

    fn a_server_that_listens_nowhere_runs_until_it_is_stopped(driver) {
        let server = common::start(common::server(driver).loops(2), |_| Script::new());
        assert!(server.local_addrs().is_empty());
        let (ran, events) = common::events();
        server.loops()[1].execute(move |_, cx| ran.send(cx.loop_index()).unwrap()).unwrap();
        assert_eq!(events.next(), 1);
        common::stop(server);
    }

    fn run_serves_and_blocks_until_the_end(driver) {
        let (address, events) = common::events();
        let server = common::server(driver).listen(TCP);
        let runner = std::thread::spawn(move || {
            server.run(move |_| {
                let address = address.clone();
                Script::new()
                    .boot(move |server| {
                        address.send(server.local_addrs()[0].socket_addr().unwrap()).unwrap();
                        Action::Continue
                    })
                    .traffic(|conn, input| {
                        conn.write(input.take_all());
                        Action::Shutdown
                    })
            })
        });
        let mut client = common::connect(events.next());
        assert!(!runner.is_finished());
        client.write_all(b"end").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"end");
        drop(client);
        runner.join().unwrap().unwrap();
    }
}
