//! What comes in goes out, byte for byte, whatever the sizes.

mod common;

use common::Echo;
use std::io::Write;

every_driver! {
    fn every_size_comes_back_whole(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| Echo);
        let mut client = common::connect(common::address(&server, 0));
        for size in [1, 2, 63, 64, 65, 4095, 4096, 4097, 65_535, 65_536, 65_537, 200_000] {
            let message = common::pattern(size);
            assert_eq!(common::exchange(&mut client, &message), message, "size {size}");
        }
        common::stop(server);
    }

    fn a_client_that_sends_everything_before_it_reads_gets_everything(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| Echo);
        let mut client = common::connect(common::address(&server, 0));
        let message = common::pattern(4 << 20);
        let writer = common::write_in_background(&client, message.clone(), true);
        assert!(common::read_to_end(&mut client) == message, "4 MiB differ");
        writer.join().unwrap().unwrap();
        common::stop(server);
    }

    fn pipelined_messages_come_back_in_order(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| Echo);
        let mut client = common::connect(common::address(&server, 0));
        let mut sent = Vec::new();
        for i in 0..2_000u32 {
            let line = format!("message {i}\n");
            client.write_all(line.as_bytes()).unwrap();
            sent.extend_from_slice(line.as_bytes());
        }
        assert_eq!(common::read(&mut client, sent.len()), sent);
        common::stop(server);
    }

    fn a_single_message_behind_a_burst_and_a_silence_is_answered(driver) {
        let server = common::server(driver).listen("tcp://127.0.0.1:0");
        let server = common::start(server, |_| Echo);
        let to = common::address(&server, 0);
        let mut clients: Vec<_> = (0..16).map(|_| common::connect(to)).collect();
        for _ in 0..50 {
            // They come together, so that the loop may wait for as many the next time.
            clients.iter_mut().for_each(|client| client.write_all(b"burst").unwrap());
            for client in &mut clients {
                assert_eq!(common::read(client, 5), b"burst");
            }
        }
        // sleep-ok: the silence is what the test is about; the loop sleeps in it.
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(common::exchange(&mut clients[3], b"alone"), b"alone");
        common::stop(server);
    }
}
