//! Faults that reviews have found, each by its behaviour.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tightloop::codec::{Codec, LengthFieldCodec, LineCodec, Step};
use tightloop::{
    Action, CloseReason, Conn, ConnId, FrameConn, FrameHandler, Framed, Handler, Input,
};

/// Tells each reason; answers a byte with 300,000 and closes, where asked to.
struct Teller {
    reasons: Sender<CloseReason>,
    closes: bool,
}

impl Handler for Teller {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if input.as_slice() == b"L" && self.closes {
            conn.write(&[7; 300_000]);
            return Action::Close;
        }
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, _: (), reason: CloseReason) {
        // The test may be over.
        let _ = self.reasons.send(reason);
    }
}

/// The second connection to speak pauses the first, and then holds the loop until there is
/// more input than the first may leave unconsumed.
struct Pauser {
    first: Option<ConnId>,
    paused: Sender<()>,
    go_on: std::sync::mpsc::Receiver<()>,
    offered: Sender<usize>,
}

impl Handler for Pauser {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        match (self.first, input.as_slice()) {
            (None, _) => self.first = Some(conn.id()),
            (Some(first), b"pause") => {
                conn.peer(first).expect("it is open").pause_reading();
                self.paused.send(()).expect("the test listens");
                self.go_on.recv().expect("the test goes on");
            }
            (Some(first), _) if first == conn.id() => {
                let _ = self.offered.send(input.len());
            }
            (Some(first), _) => conn.peer(first).expect("it is open").resume_reading(),
        }
        conn.write(b"k");
        input.take_all();
        Action::Continue
    }
}

/// Sends each line back.
struct Lines;

impl FrameHandler for Lines {
    type Codec = LineCodec;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        LineCodec::new(100).expect("a fair limit")
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) {}

    fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut (), line: &[u8]) -> Action {
        conn.send(line).expect("a line came in, so it can go out");
        Action::Continue
    }
}

every_driver! {
    fn what_waits_because_of_a_pause_does_not_count_as_unconsumed(driver) {
        let server = common::server(driver)
            .listen("tcp://127.0.0.1:0")
            .high_watermark(1000)
            .low_watermark(100)
            .max_unconsumed_input(4096);
        let server = common::start(server, |_| Framed::new(Lines));
        let mut client = common::connect(common::address(&server, 0));
        // Many whole lines in one receive, of which the answers to a few fill the output.
        let lines = b"0123456\n".repeat(6000);
        assert_eq!(common::exchange(&mut client, &lines), lines);
        common::stop(server);
    }

    fn a_connection_paused_by_another_one_holds_no_more_than_a_buffer(driver) {
        const BUFFER: usize = 4096;
        let (paused, is_paused) = common::events();
        let (offered, offers) = common::events();
        let (go, go_on) = std::sync::mpsc::channel();
        let parts = std::sync::Mutex::new(Some((paused, go_on, offered)));
        let server = common::server(driver).listen("tcp://127.0.0.1:0").receive_buffer(BUFFER);
        let server = common::start(server, move |_| {
            let (paused, go_on, offered) = parts.lock().unwrap().take().expect("one loop");
            Pauser { first: None, paused, go_on, offered }
        });
        let to = common::address(&server, 0);
        let (mut first, mut second) = (common::connect(to), common::connect(to));
        assert_eq!(common::exchange(&mut first, b"f"), b"k");
        second.write_all(b"pause").unwrap();
        is_paused.next();
        // More than a buffer, while the loop is in the callback that has paused it.
        first.write_all(&[b'x'; 16 * BUFFER]).unwrap();
        go.send(()).unwrap();
        assert_eq!(common::read(&mut second, 1), b"k");
        assert_eq!(common::exchange(&mut second, b"r"), b"k");
        assert!(offers.next() <= 2 * BUFFER);
        common::stop(server);
    }

    fn so_linger_does_not_block_the_loop(driver) {
        let (reasons, _events) = common::events();
        let server = common::server(driver)
            .listen("tcp://127.0.0.1:0")
            .linger(Duration::from_secs(60))
            .linger_after_close(Duration::from_millis(50), 1000)
            .socket_send_buffer(1 << 20);
        let server = common::start(server, move |_| Teller { reasons: reasons.clone(), closes: true });
        let to = common::address(&server, 0);
        let slow = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        slow.set_recv_buffer_size(4096).unwrap();
        slow.connect(&to.into()).unwrap();
        slow.send(b"L").unwrap();
        let mut other = common::connect(to);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            common::exchange(&mut other, b"ping");
        }
        common::eventually("the slow one is closed", || server.handle().connections() == 1);
        common::exchange(&mut other, b"ping");
        common::stop(server);
        assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    }

    fn going_along_with_the_peers_end_is_not_having_ended_it(driver) {
        let (reasons, events) = common::events();
        let server = common::server(driver).listen("tcp://127.0.0.1:0").half_close(true);
        let server =
            common::start(server, move |_| Teller { reasons: reasons.clone(), closes: false });
        let mut client = common::connect(common::address(&server, 0));
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        let reason = events.next();
        assert!(matches!(reason, CloseReason::PeerClosed), "{reason}");
        common::stop(server);
    }
}

#[test]
fn no_number_makes_a_frame_shorter_than_its_header_with_the_least_adjustment() {
    let codec = LengthFieldCodec::builder().width(8).adjustment(i64::MIN).strip(0).build();
    let mut input = i64::MAX.to_be_bytes().to_vec();
    input.extend_from_slice(b"abcdefgh");
    let decoded = codec.expect("a setting of no use, but a valid one").decode(&input).step;
    assert!(matches!(decoded, Step::Error(_)), "{decoded:?}");
}
