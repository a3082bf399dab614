//! Input that the handler leaves: offered again, in order, once, and within limits.

mod common;
mod scripted;

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc::channel;

use scripted::{Dice, Script, block, closed, next, opened, settle};
use tightloop::{Action, Conn, Input};

/// Takes one message, a length in four bytes and as many bytes, if it is there whole.
fn message<'a>(input: &mut Input<'a>) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(input.peek(4)?.try_into().ok()?) as usize;
    input.peek(4 + length)?;
    input.take(4 + length).map(|whole| &whole[4..])
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends one message back a call.
fn echo_one(conn: &mut Conn<'_>, input: &mut Input<'_>) -> Action {
    if let Some(body) = message(input) {
        conn.write(&framed(body));
    }
    Action::Continue
}

/// Messages of many sizes, one behind the other.
fn messages(dice: &mut Dice, count: usize, longest: usize) -> Vec<u8> {
    (0..count).flat_map(|_| framed(&common::pattern(dice.below(longest)))).collect()
}

every_driver! {
    fn many_messages_of_one_packet_arrive_though_each_call_takes_one(driver) {
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::<()>::new().traffic(move |conn, _, input| {
                say.send(input.len()).unwrap();
                echo_one(conn, input)
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        let sent = framed(b"twelve bytes").repeat(100);
        client.write_all(&sent).unwrap();
        assert_eq!(common::read(&mut client, sent.len()), sent);
        let calls: Vec<_> = said.try_iter().collect();
        assert!(calls.len() >= 100, "{} calls for 100 messages", calls.len());
        assert_eq!(calls.last(), Some(&16), "no call without bytes to offer");
        common::stop(server);
    }

    fn bytes_that_come_one_at_a_time_are_offered_behind_what_was_left(driver) {
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::<()>::new().traffic(move |conn, _, input| {
                say.send(input.as_slice().to_vec()).unwrap();
                echo_one(conn, input)
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        for round in 0..3 {
            let whole = framed(format!("message number {round}").as_bytes());
            for end in 1..=whole.len() {
                client.write_all(&whole[end - 1..end]).unwrap();
                assert_eq!(next(&said), &whole[..end], "after {end} bytes");
            }
            assert_eq!(common::read(&mut client, whole.len()), whole);
        }
        settle(&server, 0);
        assert!(said.try_recv().is_err(), "no call without something new");
        common::stop(server);
    }

    fn nothing_is_lost_repeated_or_reordered_whatever_the_cuts(driver) {
        for seed in 0..40 {
            let mut dice = Dice::new(seed + 1);
            let buffer = [1024, 1500, 65_536][seed as usize % 3];
            let server = common::server(driver).listen("tcp://127.0.0.1:0").receive_buffer(buffer);
            let server = common::start(server, move |_| {
                let mut dice = Dice::new(seed + 1_000);
                Script::<()>::new().traffic(move |conn, _, input| {
                    // At least one: a call that takes none of those there are waits for more.
                    for _ in 0..=dice.below(4) {
                        let _ = echo_one(conn, input);
                    }
                    Action::Continue
                })
            });
            let mut client = common::connect(common::address(&server, 0));
            let sent = messages(&mut dice, 60, 3_000);
            let mut writer = client.try_clone().unwrap();
            let bytes = sent.clone();
            let sender = std::thread::spawn(move || {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((1 + dice.below(2_000)).min(rest.len()));
                    writer.write_all(now).unwrap();
                    rest = later;
                }
            });
            assert!(common::read(&mut client, sent.len()) == sent, "seed {seed}");
            sender.join().unwrap();
            drop(client);
            common::stop(server);
        }
    }

    fn pausing_keeps_the_rest_and_resuming_offers_it_without_new_data(driver) {
        let (say, said) = channel();
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::<()>::new()
                .traffic(move |conn, _, input| {
                    if let Some(body) = message(input) {
                        say.send(body.to_vec()).unwrap();
                        conn.pause_reading();
                    }
                    Action::Continue
                })
                .wake(|conn, _| {
                    conn.resume_reading();
                    Action::Continue
                })
                .report(&report)
        });
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let sent: Vec<u8> = (0..20u8).flat_map(|n| framed(&[n; 30])).collect();
        client.write_all(&sent).unwrap();
        for n in 0..20u8 {
            assert_eq!(next(&said), [n; 30]);
            settle(&server, 0);
            assert!(said.try_recv().is_err(), "message {} came while paused", n + 1);
            handle.wake().unwrap();
        }
        client.write_all(&framed(b"and on it goes")).unwrap();
        assert_eq!(next(&said), b"and on it goes");
        common::stop(server);
    }

    fn another_connection_may_pause_and_resume_this_one(driver) {
        let (say, said) = channel();
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let (say, mut first) = (say.clone(), None);
            Script::<()>::new()
                .report(&report)
                .traffic(move |conn, _, input| {
                    let paused = *first.get_or_insert(conn.id());
                    let bytes = input.take_all();
                    let mut peer = conn.peer(paused).expect("the first one is open");
                    match bytes {
                        b"pause" => peer.pause_reading(),
                        b"resume" => peer.resume_reading(),
                        _ => {}
                    }
                    say.send(bytes.to_vec()).unwrap();
                    Action::Continue
                })
        });
        let mut first = common::connect(common::address(&server, 0));
        opened(&events);
        first.write_all(b"hello").unwrap();
        assert_eq!(next(&said), b"hello");
        let mut second = common::connect(common::address(&server, 0));
        opened(&events);
        second.write_all(b"pause").unwrap();
        assert_eq!(next(&said), b"pause");
        settle(&server, 0);
        first.write_all(b"while paused").unwrap();
        settle(&server, 0);
        assert!(said.try_recv().is_err(), "read while paused");
        second.write_all(b"resume").unwrap();
        assert_eq!(next(&said), b"resume");
        assert_eq!(next(&said), b"while paused");
        common::stop(server);
    }

    // gnet #445: a wake after unread traffic showed the data twice.
    fn a_wake_after_unread_traffic_does_not_show_data_twice(driver) {
        let (say, said) = channel();
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let (say, woken) = (say.clone(), say.clone());
            Script::<()>::new()
                .report(&report)
                .traffic(move |_, _, input| {
                    say.send(input.as_slice().to_vec()).unwrap();
                    Action::Continue
                })
                .wake(move |_, _| {
                    woken.send(b"wake".to_vec()).unwrap();
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        client.write_all(b"left").unwrap();
        assert_eq!(next(&said), b"left");
        for _ in 0..3 {
            handle.wake().unwrap();
            assert_eq!(next(&said), b"wake");
        }
        settle(&server, 0);
        client.write_all(b" over").unwrap();
        assert_eq!(next(&said), b"left over");
        settle(&server, 0);
        assert!(said.try_recv().is_err(), "offered again without something new");
        common::stop(server);
    }

    fn messages_of_a_mebibyte_are_collected_by_a_handler_that_takes_only_whole_ones(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| {
            Script::<()>::new().traffic(|conn, _, input| echo_one(conn, input))
        });
        let mut client = common::connect(common::address(&server, 0));
        let sent: Vec<u8> =
            [1 << 20, 3, (1 << 20) + 1].iter().flat_map(|n| framed(&common::pattern(*n))).collect();
        let writer = common::write_in_background(&client, sent.clone(), false);
        assert!(common::read(&mut client, sent.len()) == sent, "the messages differ");
        writer.join().unwrap().unwrap();
        common::stop(server);
    }

    fn unconsumed_input_above_the_limit_closes_and_up_to_it_does_not(driver) {
        let (say, said) = channel();
        let (report, events) = common::events();
        let server = common::server(driver).listen("tcp://127.0.0.1:0").max_unconsumed_input(9_000);
        let server = common::start(server, move |_| {
            let say = say.clone();
            Script::<()>::new().report(&report).traffic(move |_, _, input| {
                say.send(input.len()).unwrap();
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        client.write_all(&common::pattern(9_000)).unwrap();
        while next(&said) < 9_000 {}
        settle(&server, 0);
        assert!(handle.is_open(), "9,000 bytes are allowed");
        client.write_all(b"!").unwrap();
        assert_eq!(closed(&events), (handle.id().unwrap(), "InputLimit".to_owned()));
        assert!(common::is_closed(&mut client));
        common::stop(server);
    }

    fn all_messages_are_offered_before_the_peers_end_is_told(driver) {
        let (say, said) = channel();
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::<usize>::new()
                .report(&report)
                .traffic(|_, count, input| {
                    *count += usize::from(message(input).is_some());
                    Action::Continue
                })
                .close(move |_, count, _| say.send(count).unwrap())
        });
        for _ in 0..20 {
            let mut client = common::connect(common::address(&server, 0));
            opened(&events);
            client.write_all(&framed(b"one of many").repeat(500)).unwrap();
            drop(client);
            assert_eq!(next(&said), 500);
            assert_eq!(closed(&events).1, "PeerClosed");
        }
        common::stop(server);
    }

    fn what_came_with_the_fin_is_offered_after_a_pause_and_then_the_end_is_told(driver) {
        let (say, said) = channel();
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::<()>::new()
                .report(&report)
                .traffic(move |conn, (), input| {
                    say.send(message(input).expect("whole messages").to_vec()).unwrap();
                    conn.pause_reading();
                    Action::Continue
                })
                .wake(|conn, ()| {
                    conn.resume_reading();
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        client.write_all(&[framed(b"first"), framed(b"second")].concat()).unwrap();
        drop(client);
        assert_eq!(next(&said), b"first");
        settle(&server, 0);
        assert!(handle.is_open(), "the end is told after the input");
        handle.wake().unwrap();
        assert_eq!(next(&said), b"second");
        settle(&server, 0);
        handle.wake().unwrap();
        assert_eq!(closed(&events), (handle.id().unwrap(), "PeerClosed".to_owned()));
        common::stop(server);
    }

    fn a_fin_that_came_in_the_turn_of_a_pause_by_another_is_told_on_resuming(driver) {
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let first = Rc::new(Cell::new(None));
            let known = first.clone();
            Script::<()>::new()
                .report(&report)
                .open(move |conn| first.set(first.get().or(Some(conn.id()))))
                .traffic(move |conn, (), input| {
                    input.take_all();
                    let mut peer = conn.peer(known.get().unwrap()).expect("it is open");
                    peer.pause_reading();
                    Action::Continue
                })
                .wake(|conn, ()| {
                    conn.resume_reading();
                    Action::Continue
                })
        });
        let paused = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let mut pausing = common::connect(common::address(&server, 0));
        opened(&events);
        // What the loop has yet to hear of earlier events would come first.
        settle(&server, 0);
        let gate = block(&server, 0);
        pausing.write_all(b"pause the other").unwrap();
        drop(paused);
        drop(gate);
        settle(&server, 0);
        assert!(handle.is_open(), "the end is not told while reading is paused");
        handle.wake().unwrap();
        assert_eq!(closed(&events), (handle.id().unwrap(), "PeerClosed".to_owned()));
        common::stop(server);
    }
}
