//! Seeds of the simulated network, that a seed is a run, and that the checker sees what is wrong.

use std::time::Duration;

use super::*;
use crate::options::WhenFull;

/// Runs seeds and answers the first failure, with the command that replays it.
fn run_all(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Err(Failure { seed, rule }) = run(seed, None) {
            panic!(
                "seed {seed} breaks a rule: {rule}\nreplay: cargo run --release --features sim \
                 --example sim_soak -- --seed {seed} --trace"
            );
        }
    }
}

#[test]
fn the_first_hundred_seeds_break_no_rule() {
    run_all(1..=100);
}

#[test]
fn the_second_hundred_seeds_break_no_rule() {
    run_all(101..=200);
}

#[test]
fn a_seed_is_a_run_to_the_byte() {
    let mut hashes = Vec::new();
    for seed in 21..=32 {
        let (first, second) = (run(seed, None), run(seed, None));
        assert_eq!(first, second);
        hashes.push(first.unwrap().hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 12, "different seeds are different runs");
}

#[test]
fn a_trace_does_not_change_a_run_and_tells_it() {
    let lines = Rc::new(Cell::new(0));
    let count = Rc::clone(&lines);
    let traced = run(3, Some(Box::new(move |_| count.set(count.get() + 1)))).unwrap();
    assert_eq!(traced, run(3, None).unwrap());
    assert_eq!(lines.get(), traced.entries);
}

/// Runs seeds with something about them held fast, so that most of them come to where a bug was.
fn run_scene(change: impl Fn(&mut Weather, &mut Options, &mut Plan)) {
    for seed in 1..=40 {
        assert_eq!(run_with(seed, None, &change).err(), None);
    }
}

#[test]
fn reading_on_does_not_take_the_watch_of_a_close_away() {
    run_scene(|_, options, plan| {
        options.first_byte_timeout = Some(Duration::from_secs(9));
        options.read_idle_timeout = Some(Duration::from_secs(9));
        (plan.acts, plan.ends) = (500, 100);
    });
}

#[test]
fn a_watch_that_is_due_is_not_put_off_by_a_full_socket() {
    run_scene(|weather, options, _| {
        options.read_idle_timeout = Some(Duration::from_millis(20));
        options.write_stall_timeout = Some(Duration::from_secs(5));
        options.auto_pause = false;
        (weather.window, weather.pace) = (4, 100);
    });
}

#[test]
fn a_reset_that_shutdown_finds_first_is_a_reset() {
    run_scene(|weather, _, plan| {
        weather.reset = 30;
        (plan.acts, plan.ends) = (300, 100);
    });
}

#[test]
fn a_place_that_comes_free_does_not_defeat_the_accept_rate() {
    run_scene(|weather, options, _| {
        options.max_connections = 2;
        options.when_full = WhenFull::Wait;
        options.accept_rate = Some(20);
        options.idle_timeout = Some(Duration::from_millis(20));
        weather.peers = 24;
    });
}

#[test]
fn who_is_held_back_is_read_idle_though_its_reading_rested_before() {
    run_scene(|weather, options, plan| {
        options.read_idle_timeout = Some(Duration::from_millis(20));
        options.auto_pause = true;
        (options.high_watermark, options.low_watermark) = (0, Some(0));
        plan.memory_budget = Some(0);
        (plan.acts, plan.write, plan.budget) = (700, 70_000, 3_000_000);
        weather.peers = 20;
    });
}

#[test]
fn whoever_pre_write_has_brought_above_the_high_mark_gets_its_on_drain() {
    run_scene(|_, options, plan| {
        (options.high_watermark, options.low_watermark) = (1_000, Some(1_000));
        options.max_pending_output = options.max_pending_output.max(1_000);
        (plan.acts, plan.write, plan.budget) = (700, 5_000, 100_000);
    });
}

#[test]
fn who_was_held_back_is_let_go_when_there_is_memory_again() {
    run_scene(|weather, options, plan| {
        options.max_unconsumed_input = 64 << 20;
        options.max_connections = usize::MAX;
        options.max_connections_per_ip = usize::MAX;
        options.accept_rate = None;
        (weather.window, weather.peer_bytes) = (64 << 10, 60_000);
        (weather.peers, weather.reset) = (24, 30);
        (plan.memory_budget, plan.never, plan.acts) = (Some(60_000), 300, 200);
    });
}

#[test]
fn what_is_relayed_arrives_whole_and_nobody_rests_for_ever() {
    run_scene(|weather, options, plan| {
        (weather.relayed, weather.peer_bytes) = (900, 300_000);
        (weather.window, weather.pace, weather.short) = (64 << 10, 2_000, 100);
        options.high_watermark = options.high_watermark.max(1_000);
        options.max_pending_output = options.high_watermark + (64 << 20);
        options.max_connections = usize::MAX;
        options.max_connections_per_ip = usize::MAX;
        options.accept_rate = None;
        (plan.acts, plan.connects) = (200, 20);
        weather.peers = weather.peers.max(8);
    });
}

/// Plants a bug, and answers the rules that some seeds then break.
fn found(sabotage: Sabotage) -> Vec<String> {
    let plant = |weather: &mut Weather, options: &mut Options, plan: &mut Plan| {
        if sabotage == Sabotage::IgnorePause {
            options.max_unconsumed_input = 1;
            options.receive_buffer = weather.receive_buffer.min(1 << 10);
            weather.receive_buffer = options.receive_buffer;
            plan.acts = 300;
        }
        if sabotage == Sabotage::LosePipe {
            (weather.relayed, weather.peer_bytes, weather.window) = (900, 300_000, 64 << 10);
        }
        if sabotage == Sabotage::LoseDatagram {
            (weather.datagrams, plan.datagram_sockets) = (60, 1);
        }
        weather.sabotage = Some(sabotage);
        weather.peers = weather.peers.max(5);
        plan.handles = true;
    };
    (1..=25).filter_map(|seed| run_with(seed, None, plant).err()).map(|f| f.rule).collect()
}

/// The checker finds a planted bug, and says what is wrong with it.
fn assert_found(sabotage: Sabotage, rule: &str) {
    let found = found(sabotage);
    assert!(
        found.iter().any(|text| text.contains(rule)),
        "{sabotage:?}: nobody says {rule:?}: {found:#?}"
    );
}

#[test]
fn a_received_byte_that_is_dropped_is_noticed() {
    assert_found(Sabotage::DropReceivedByte, "other input is offered than arrived");
}

#[test]
fn a_byte_that_is_sent_twice_is_noticed() {
    assert_found(Sabotage::SendByteTwice, "not what the handler wrote");
}

#[test]
fn a_sent_byte_that_is_lost_is_noticed() {
    assert_found(Sabotage::LoseSentByte, "the peer read");
}

#[test]
fn what_is_lost_between_two_sockets_is_noticed() {
    assert_found(Sabotage::LosePipe, "the peer read");
}

#[test]
fn a_wake_that_is_lost_is_noticed() {
    assert_found(Sabotage::LoseWake, "nobody rang");
}

#[test]
fn input_in_spite_of_a_pause_is_noticed() {
    assert_found(Sabotage::IgnorePause, "too much input is kept");
}

#[test]
fn an_on_close_that_comes_twice_is_noticed() {
    assert_found(Sabotage::CloseTwice, "opened and closed (1, 2) times");
}

#[test]
fn an_on_close_that_is_missing_is_noticed() {
    assert_found(Sabotage::ForgetClose, "on_shutdown comes before the last on_close");
}

#[test]
fn a_writable_that_is_missing_is_noticed() {
    assert_found(Sabotage::ForgetWritable, "a Writable that will not come");
}

#[test]
fn a_loop_that_spins_is_noticed() {
    assert_found(Sabotage::Spin, "the loop spins");
}

#[test]
fn a_buffer_that_is_kept_is_noticed() {
    assert_found(Sabotage::KeepBuffer, "buffers are lent");
}

#[test]
fn a_datagram_that_is_told_too_often_is_noticed() {
    assert_found(Sabotage::RepeatDatagram, "is not what arrived");
}

#[test]
fn a_datagram_that_is_lost_among_others_is_noticed() {
    assert_found(Sabotage::LoseDatagram, "answers to datagrams were lost");
}

#[test]
fn a_slot_that_is_used_again_while_it_is_open_is_noticed() {
    let network = Network::new(Random::new(1), Weather::by_chance(&mut Random::new(1)), None);
    let network = Rc::new(RefCell::new(network));
    network.borrow_mut().weather.open_error = 0;
    network.borrow_mut().weather.connect_error = 0;
    let mut driver = Sim::new(Rc::clone(&network));
    let socket = crate::sys::sockopt::SocketOptions::default();
    for generation in 0..2 {
        let link = network.borrow_mut().reserve();
        let address = Address::Ip(address_of(link));
        let stream =
            driver.start_connect(&address, &crate::sys::route::Route::default(), &socket).unwrap();
        let broken = network.borrow().journal.violation().is_some();
        assert!(!broken, "too early");
        driver.open(crate::driver::Token { index: 3, generation }, stream).unwrap();
    }
    let rule = network.borrow().journal.violation().unwrap().to_owned();
    assert!(rule.contains("slot 3 is used again"), "{rule}");
}
