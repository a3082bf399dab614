//! Frames over real sockets: handing over, errors and their policy, ends of streams, codecs that
//! change, worker jobs, other threads, and backpressure.

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::Sender;

use bytes::BufMut;
use tightloop::codec::{AnyCodec, Codec, Decoded, LengthFieldCodec, LineCodec};
use tightloop::{
    Action, CloseReason, Conn, DecodeError, EncodeError, FrameConn, FrameHandler, Framed,
    SpawnError,
};

/// Lines in, lines out; commands make it do the rest.
struct Lines {
    events: Sender<String>,
    resynchronises: bool,
}

fn lines(
    events: &Sender<String>,
    resynchronises: bool,
) -> impl Fn(tightloop::LoopInfo) -> Framed<Lines> + use<> {
    let events = events.clone();
    move |_| Framed::new(Lines { events: events.clone(), resynchronises })
}

impl FrameHandler for Lines {
    type Codec = AnyCodec;
    /// Frames seen.
    type State = usize;

    fn codec(&mut self, _: &mut Conn<'_>) -> AnyCodec {
        LineCodec::new(64).unwrap().into()
    }

    fn on_open(&mut self, conn: &mut FrameConn<'_, Self>) -> usize {
        conn.send(b"hello").unwrap();
        0
    }

    fn on_frame(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        seen: &mut usize,
        frame: &[u8],
    ) -> Action {
        *seen += 1;
        let frame = frame.to_vec();
        match &frame[..] {
            b"quit" => return Action::Close,
            b"binary" => {
                conn.send(b"switching").unwrap();
                conn.switch_codec(LengthFieldCodec::new(2).unwrap());
            }
            b"work" => {
                conn.pause_reading();
                let job = move || [&frame[..], b" done"].concat();
                let spawned = conn.spawn(job, |conn, seen, result| {
                    conn.send(&result.unwrap()).unwrap();
                    conn.send(format!("{seen} seen").as_bytes()).unwrap();
                    conn.resume_reading();
                });
                match spawned {
                    Ok(()) => {}
                    Err(SpawnError::Full((_job, done))) => done(conn, seen, Ok(b"full".to_vec())),
                    Err(other) => panic!("{other:?}"),
                }
            }
            b"other thread" => {
                let bytes = conn.codec_mut().encode_to_bytes(b"from a thread").unwrap();
                let handle = conn.handle();
                std::thread::spawn(move || handle.write(bytes)).join().unwrap().unwrap();
            }
            b"bad" => assert!(conn.send(b"two\nlines").is_err()),
            b"later" => conn.set_timer(std::time::Duration::from_millis(1)),
            frame => conn.send(frame).unwrap(),
        }
        Action::Continue
    }

    fn on_frame_error(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        _: &mut usize,
        error: DecodeError,
    ) -> Result<Action, DecodeError> {
        self.events.send(format!("error: {error}")).unwrap();
        match self.resynchronises {
            true => {
                conn.send(b"ignored").unwrap();
                Ok(Action::Continue)
            }
            false => {
                conn.send(b"goodbye").unwrap();
                Err(error)
            }
        }
    }

    fn on_eof(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut usize) -> Action {
        conn.send(b"end").unwrap();
        Action::Close
    }

    /// Changes the codec between two frames, with input left over.
    fn on_timer(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut usize) -> Action {
        conn.switch_codec(LengthFieldCodec::new(1).unwrap());
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, seen: usize, reason: CloseReason) {
        let reason = match reason {
            CloseReason::Codec(DecodeError::Incomplete { buffered }) => {
                format!("within {buffered}")
            }
            CloseReason::Codec(DecodeError::TooLong { length, limit }) => {
                format!("{length} above {limit}")
            }
            other => format!("{other:?}"),
        };
        self.events.send(format!("closed after {seen}: {reason}")).unwrap();
    }
}

/// Refuses everything, and cannot get past it.
struct Stubborn;

impl Codec for Stubborn {
    type Frame<'a> = &'a [u8];
    type Item<'a> = &'a [u8];

    fn decode<'a>(&mut self, _: &'a [u8]) -> Decoded<&'a [u8]> {
        Decoded::error(0, DecodeError::other("no"))
    }

    fn encode<B: BufMut>(&mut self, item: &[u8], out: &mut B) -> Result<(), EncodeError> {
        out.put_slice(item);
        Ok(())
    }
}

/// Would go on after every error.
struct Patient(Sender<String>);

impl FrameHandler for Patient {
    type Codec = Stubborn;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> Stubborn {
        Stubborn
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) {}

    fn on_frame(&mut self, _: &mut FrameConn<'_, Self>, _: &mut (), _: &[u8]) -> Action {
        Action::Continue
    }

    fn on_frame_error(
        &mut self,
        _: &mut FrameConn<'_, Self>,
        _: &mut (),
        error: DecodeError,
    ) -> Result<Action, DecodeError> {
        self.0.send(error.to_string()).unwrap();
        Ok(Action::Continue)
    }

    fn on_close(&mut self, _: &mut Conn<'_>, _: (), reason: CloseReason) {
        self.0.send(reason.to_string()).unwrap();
    }
}

const ADDRESS: &str = "tcp://127.0.0.1:0";

every_driver! {
    fn frames_come_out_one_by_one_however_they_arrive(driver) {
        let (sender, events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::read(&mut client, 6), b"hello\n");
        client.write_all(b"one\r\ntwo\nthr").unwrap();
        assert_eq!(common::read(&mut client, 8), b"one\ntwo\n");
        for byte in b"ee\nquit\n" {
            client.write_all(&[*byte]).unwrap();
        }
        assert_eq!(common::read_to_end(&mut client), b"three\n");
        assert_eq!(events.next(), "closed after 4: Local");
        common::stop(server);
    }

    fn what_is_no_frame_closes_the_connection_after_the_last_words(driver) {
        let (sender, events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(&[b"one\n", &[b'x'; 65][..], b"\nafter\n"].concat()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(common::read_to_end(&mut client), b"hello\none\ngoodbye\n");
        assert!(events.next().starts_with("error: a frame of 65 bytes"));
        assert_eq!(events.next(), "closed after 1: 65 above 64");
        common::stop(server);
    }

    fn a_handler_may_go_on_behind_what_is_no_frame(driver) {
        let (sender, events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, true));
        let mut client = common::connect(common::address(&server, 0));
        let bad = vec![b'x'; 300_000];
        client.write_all(&[b"one\n", &bad[..], b"\ntwo\n", &bad[..], b"\nquit\n"].concat()).unwrap();
        let answer = b"hello\none\nignored\ntwo\nignored\n";
        assert_eq!(common::read_to_end(&mut client), answer);
        assert!(events.next().starts_with("error"));
        assert!(events.next().starts_with("error"));
        assert_eq!(events.next(), "closed after 3: Local");
        common::stop(server);
    }

    fn a_stream_that_ends_within_a_frame_is_told_as_that(driver) {
        let (sender, events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, true));
        for (sent, told) in [
            (&b"one\ntw"[..], "closed after 1: within 2"),
            (b"one\n", "closed after 1: PeerClosed"),
            (b"", "closed after 0: PeerClosed"),
        ] {
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            common::read_to_end(&mut client);
            assert_eq!(events.next(), told);
        }
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(&[b'x'; 100]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        common::read_to_end(&mut client);
        assert!(events.next().starts_with("error"));
        assert_eq!(events.next(), "closed after 0: within 0");
        let stats = server.handle().stats();
        assert_eq!((stats.closed_codec, stats.closed_by_peer), (2, 2), "counted as it is told");
        common::stop(server);
    }

    fn with_half_close_the_unfinished_frame_is_an_error_before_the_end(driver) {
        let (sender, events) = common::events();
        for (resynchronises, answer, told) in [
            (true, &b"hello\nignored\nend\n"[..], "closed after 0: PeerClosed"),
            (false, b"hello\ngoodbye\n", "closed after 0: within 2"),
        ] {
            let server = common::server(driver).listen(ADDRESS).half_close(true);
            let server = common::start(server, lines(&sender, resynchronises));
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(b"tw").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(common::read_to_end(&mut client), answer);
            assert!(events.next().contains("within a frame"));
            assert_eq!(events.next(), told);
            common::stop(server);
        }
    }

    fn a_new_codec_gets_the_bytes_that_the_old_one_left(driver) {
        let (sender, events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"binary\n\0\x03one\0\x05tw").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(common::read_to_end(&mut client), b"hello\nswitching\n\0\x03one");
        assert_eq!(events.next(), "closed after 2: within 4");
        common::stop(server);
    }

    fn a_codec_changed_between_frames_gets_what_was_left_over(driver) {
        let (sender, _events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"later\n\x03one").unwrap();
        assert_eq!(common::read(&mut client, 10), b"hello\n\x03one");
        common::stop(server);
    }

    fn a_frame_goes_to_a_worker_and_the_answer_through_the_codec(driver) {
        let (sender, _events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"work\nnext\n").unwrap();
        assert_eq!(common::read(&mut client, 28), b"hello\nwork done\n1 seen\nnext\n");
        common::stop(server);
    }

    fn a_full_pool_gives_job_and_done_back(driver) {
        let (sender, _events) = common::events();
        let server = common::server(driver).listen(ADDRESS).worker_threads(1).worker_queue(1);
        let server = common::start(server, lines(&sender, false));
        let (open, wait) = std::sync::mpsc::channel::<()>();
        let busy = move || wait.recv().unwrap_or_default();
        assert!(server.workers().try_spawn(busy).is_ok());
        common::eventually("a thread has it", || server.workers().stats().queued == 0);
        assert!(server.workers().try_spawn(|| ()).is_ok());
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"work\n").unwrap();
        assert_eq!(common::read(&mut client, 18), b"hello\nfull\n1 seen\n");
        drop(open);
        common::stop(server);
    }

    fn other_threads_send_frames_that_are_encoded_once(driver) {
        let (sender, _events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"other thread\n").unwrap();
        assert_eq!(common::read(&mut client, 20), b"hello\nfrom a thread\n");
        let all = LineCodec::new(64).unwrap().encode_to_bytes(b"for all").unwrap();
        server.handle().broadcast(all).unwrap();
        assert_eq!(common::read(&mut client, 8), b"for all\n");
        common::stop(server);
    }

    fn an_item_that_is_no_frame_is_refused_and_nothing_is_written(driver) {
        let (sender, _events) = common::events();
        let server = common::start(common::server(driver).listen(ADDRESS), lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"bad\nquit\n").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"hello\n");
        common::stop(server);
    }

    fn a_codec_that_does_not_move_on_ends_the_connection(driver) {
        let (sender, events) = common::events();
        let server = common::server(driver).listen(ADDRESS);
        let server = common::start(server, move |_| Framed::new(Patient(sender.clone())));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"x").unwrap();
        assert!(common::is_closed(&mut client));
        assert_eq!([events.next(), events.next()], ["no", "not a frame: no"]);
        common::stop(server);
    }

    fn frames_wait_while_the_output_is_above_its_watermark(driver) {
        let (sender, _events) = common::events();
        let server = common::server(driver).listen(ADDRESS).high_watermark(1_000).low_watermark(0);
        let server = common::start(server, lines(&sender, false));
        let mut client = common::connect(common::address(&server, 0));
        let sent: Vec<u8> = (0..200_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let writer = common::write_in_background(&client, sent.clone(), true);
        assert_eq!(common::read(&mut client, 6), b"hello\n");
        assert!(common::read_to_end(&mut client) == sent, "the frames that came back differ");
        writer.join().unwrap().unwrap();
        common::stop(server);
    }
}
