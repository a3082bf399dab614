//! The end of the driver.
#![cfg(test)]

use super::*;

/// More than the kernel ends in one call, of each kind.
const MANY: u16 = 100;

/// Room for all, and for few.
const ENTRIES: [(u32, u32); 2] = [(512, 2048), (8, 16)];

/// A driver with many listeners and streams; their addresses and peers.
fn busy(entries: (u32, u32)) -> Option<(Uring, Vec<SocketAddr>, Vec<TcpStream>)> {
    let mut driver = driver(4, entries)?;
    let listeners = (0..MANY).map(|number| {
        let (listener, address) = local_listener();
        driver.listen(u32::from(number), Listener::Tcp(listener)).unwrap();
        address
    });
    let addresses = listeners.collect();
    let peers = open(&mut driver, u32::from(MANY));
    // Some are closed in the same turn, and not gone yet.
    (0..10).for_each(|index| driver.close(token(index), CloseMode::Orderly));
    Some((driver, addresses, peers))
}

/// Listeners and streams are closed: no operation holds them.
fn assert_all_are_gone(addresses: &[SocketAddr], peers: &mut [TcpStream]) {
    for address in addresses {
        TcpListener::bind(address).expect("the port is free");
    }
    for peer in peers {
        assert_eq!(read_to_end(peer).unwrap(), b"");
    }
}

#[test]
fn no_operation_outlives_the_driver() {
    for entries in ENTRIES {
        let Some((driver, addresses, mut peers)) = busy(entries) else { return };
        drop(driver);
        assert_all_are_gone(&addresses, &mut peers);
    }
}

#[test]
fn no_operation_outlives_a_loop_that_panics() {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let Some((_driver, addresses, peers)) = busy(ENTRIES[0]) else { return };
        tell.send((addresses, peers)).unwrap();
        panic!("as a bug of the loop would");
    });
    let Ok((addresses, mut peers)) = told.recv() else { return };
    assert!(thread.join().is_err());
    assert_all_are_gone(&addresses, &mut peers);
}

/// A call of the kernel's ends only some of many.
#[test]
fn behind_the_end_of_all_operations_nothing_is_told() {
    for entries in ENTRIES {
        let Some((mut driver, ..)) = busy(entries) else { return };
        driver.end_operations().unwrap();
        driver.ring.enter(Wait::No).unwrap();
        assert!(!driver.ring.has_completions(), "{:?}", driver.ring.next());
    }
}

/// An accept that has just left and for which there is a connection is not found by a cancel.
#[test]
fn accepts_that_are_about_to_look_for_connections_end_with_the_driver() {
    let Some(mut driver) = driver(4, (512, 2048)) else { return };
    // Without the bell's poll, which would be found.
    driver.end_operations().unwrap();
    let listeners: Vec<_> = (0..3).map(|_| local_listener()).collect();
    let clients: Vec<_> = listeners.iter().map(|(_, to)| TcpStream::connect(to).unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|(_, address)| *address).collect();
    for (number, (listener, _)) in (0..).zip(listeners) {
        listener.set_nonblocking(true).unwrap();
        driver.listen(number, Listener::Tcp(listener)).unwrap();
    }
    driver.end_operations().unwrap();
    let _more: Vec<_> = addresses.iter().map(|to| TcpStream::connect(to).unwrap()).collect();
    driver.ring.enter(Wait::No).unwrap();
    assert!(!driver.ring.has_completions(), "{:?}", driver.ring.next());
    drop((driver, clients));
}

#[test]
fn where_nothing_is_left_nothing_is_waited_for() {
    let Some(mut driver) = driver(4, (8, 16)) else { return };
    driver.end_operations().unwrap();
    // One of them, as the machine may stand still meanwhile.
    let is_quick = (0..5).any(|_| {
        let start = std::time::Instant::now();
        driver.end_operations().unwrap();
        start.elapsed() < Duration::from_secs(1)
    });
    assert!(is_quick);
}

/// The memory is not freed under operations of which nobody knows whether they have ended.
#[test]
fn a_kernel_that_ends_nothing_is_not_trusted_with_freed_memory() {
    let Some((mut driver, _, _peers)) = busy(ENTRIES[0]) else { return };
    driver.ring.takes = 0;
    assert!(driver.end_operations().is_err());
    driver.ring.takes = u32::MAX;
    driver.end_operations().unwrap();
}
