//! `Action::Shutdown`, and `stop_server`, from every callback: what was written arrives, and `run`
//! returns `Ok`.

mod closures;
mod common;

use std::io::Write;
use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

#[cfg(unix)]
use closures::Directory;
use closures::{Script, TCP, ended};
use tightloop::Action;

every_driver! {
    fn from_on_open_the_greeting_arrives(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().open(|conn| {
                conn.write(b"sorry");
                conn.stop_server();
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::read_to_end(&mut client), b"sorry");
        drop(client);
        ended(server);
    }

    fn from_on_traffic_the_reply_arrives(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().traffic(|conn, input| {
                conn.write(input.take_all());
                Action::Shutdown
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"last words").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"last words");
        drop(client);
        ended(server);
    }

    fn from_on_traffic_of_one_loop_the_others_end_too(driver) {
        let server = common::start(common::server(driver).loops(3).listen(TCP), |_| {
            Script::new().traffic(|conn, input| {
                conn.write(input.take_all());
                Action::Shutdown
            })
        });
        let to = common::address(&server, 0);
        let mut clients: Vec<_> = (0..6).map(|_| common::connect(to)).collect();
        common::eventually("all are accepted", || server.handle().connections() == 6);
        clients[4].write_all(b"end").unwrap();
        for (index, client) in clients.iter_mut().enumerate() {
            let expected: &[u8] = if index == 4 { b"end" } else { b"" };
            assert_eq!(common::read_to_end(client), expected);
        }
        drop(clients);
        ended(server);
    }

    fn from_on_datagram_the_reply_arrives(driver) {
        let server = common::start(common::server(driver).listen("udp://127.0.0.1:0"), |_| {
            Script::new().datagram(|datagram| {
                datagram.reply(b"bye");
                Action::Shutdown
            })
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(common::DEADLINE)).unwrap();
        client.send_to(b"hello", common::address(&server, 0)).unwrap();
        let mut buffer = [0; 8];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"bye");
        ended(server);
    }

    fn from_on_timer_what_was_written_arrives(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().open(|conn| conn.set_timer(Duration::from_millis(5))).timer(|conn| {
                conn.write(b"time is up");
                Action::Shutdown
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::read_to_end(&mut client), b"time is up");
        drop(client);
        ended(server);
    }

    fn from_on_wake_what_was_written_arrives(driver) {
        let (give, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let give = give.clone();
            Script::new().open(move |conn| give.send(conn.handle()).unwrap()).wake(|conn| {
                conn.write(b"woken");
                Action::Shutdown
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        events.next().wake().unwrap();
        assert_eq!(common::read_to_end(&mut client), b"woken");
        drop(client);
        ended(server);
    }

    fn from_on_drain_everything_arrives(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new()
                .open(|conn| {
                    conn.write_bytes(common::pattern(16 << 20));
                })
                .drain(|conn| {
                    conn.write(b"drained");
                    Action::Shutdown
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        let mut expected = common::pattern(16 << 20);
        expected.extend_from_slice(b"drained");
        assert!(common::read_to_end(&mut client) == expected, "bytes differ");
        drop(client);
        ended(server);
    }

    fn from_on_eof_the_answer_arrives(driver) {
        let server = common::server(driver).half_close(true).listen(TCP);
        let server = common::start(server, |_| {
            Script::new().eof(|conn| {
                conn.write(b" and out");
                Action::Shutdown
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"over").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(common::read_to_end(&mut client), b"over and out");
        ended(server);
    }

    fn from_on_close_the_server_ends(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().close(|conn, _| conn.stop_server())
        });
        let mut other = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut other, b"here"), b"here");
        drop(common::connect(common::address(&server, 0)));
        assert!(common::read_to_end(&mut other).is_empty());
        drop(other);
        ended(server);
    }

    fn from_on_tick_the_server_ends(driver) {
        let server = common::start(common::server(driver).loops(2).listen(TCP), |info| {
            let mut ticks = 0;
            Script::new().tick(move |cx| {
                ticks += 1;
                if info.index == 1 && ticks == 3 {
                    cx.stop_server();
                }
                Some(Duration::from_millis(2))
            })
        });
        ended(server);
    }

    fn from_the_first_on_tick_the_server_ends(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().tick(|cx| {
                cx.stop_server();
                None
            })
        });
        ended(server);
    }

    fn from_on_shutdown_a_stop_is_harmless(driver) {
        let server = common::start(common::server(driver).loops(2).listen(TCP), |_| {
            Script::new().shutdown(|cx| {
                cx.stop_server();
                cx.server().stop();
            })
        });
        server.stop();
        ended(server);
    }

    fn from_a_scheduled_job_and_from_a_job_of_another_thread_the_server_ends(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| Script::new());
        let job = |_: &mut Script, cx: &mut tightloop::Context<'_, Script>| {
            cx.schedule(Duration::from_millis(1), |_, cx| cx.stop_server());
        };
        server.loops()[0].execute(job).unwrap();
        ended(server);
    }

    fn from_the_connection_of_a_finished_job_what_was_written_arrives(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().traffic(|conn, input| {
                input.take_all();
                let done = |conn: &mut tightloop::Conn<'_>, _: &mut (), result| {
                    conn.write(if result == Ok(7) { b"seven" } else { b"wrong" });
                    conn.stop_server();
                };
                assert!(conn.spawn(|| 7, done).is_ok());
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"?").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"seven");
        drop(client);
        ended(server);
    }

    #[cfg(unix)]
    fn over_a_unix_socket_the_reply_arrives(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let server = common::start(common::server(driver).listen(url), |_| {
            Script::new().traffic(|conn, input| {
                conn.write(input.take_all());
                Action::Shutdown
            })
        });
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(common::DEADLINE)).unwrap();
        client.write_all(b"last words").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"last words");
        drop(client);
        ended(server);
        assert!(!path.exists());
    }
}
