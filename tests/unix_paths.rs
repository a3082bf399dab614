//! The path of a Unix socket: taken over from a dead server only, removed only if it is ours.
#![cfg(unix)]

mod closures;
mod common;

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use closures::{Directory, Script, ended};
use tightloop::{Error, RunningServer, Server};

/// Starts a server that greets with `name`.
fn greeting(server: Server, name: &'static str) -> RunningServer<Script> {
    common::start(server, move |_| {
        Script::new().open(move |conn| {
            conn.write(name.as_bytes());
        })
    })
}

/// Who answers at `path`.
fn who(path: &Path) -> String {
    let mut client = UnixStream::connect(path).expect("somebody listens");
    client.set_read_timeout(Some(common::DEADLINE)).unwrap();
    String::from_utf8(common::read(&mut client, 3)).unwrap()
}

/// The reason for which the path is refused, with its address in the error.
fn refusal(server: Server, path: &Path) -> ErrorKind {
    let error = server.start(|_| Script::new()).expect_err("the path is not ours");
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    match error {
        Error::Listen { source, .. } => source.kind(),
        other => panic!("{other:?}"),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

every_driver! {
    fn the_path_of_a_dead_server_is_taken_over(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(is_socket(&path), "the dead server left its path");
        let server = greeting(common::server(driver).listen(url), "new");
        assert_eq!(who(&path), "new");
        common::stop(server);
        assert!(!path.exists());
    }

    fn the_path_of_a_living_server_is_refused_and_stays_usable(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let first = greeting(common::server(driver).listen(&*url), "one");
        for _ in 0..3 {
            let kind = refusal(common::server(driver).listen(&*url), &path);
            assert_eq!(kind, ErrorKind::AddrInUse);
            assert_eq!(who(&path), "one");
        }
        common::stop(first);
        assert!(!path.exists());
    }

    fn the_path_of_a_living_server_with_a_full_backlog_is_refused_too(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let address = socket2::SockAddr::unix(&path).unwrap();
        socket.bind(&address).unwrap();
        socket.listen(0).unwrap();
        let probe = || {
            let probe = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
            let probe = probe.unwrap();
            probe.set_nonblocking(true).unwrap();
            probe.connect(&address).map(|()| probe)
        };
        let waiting: Vec<_> = std::iter::from_fn(|| probe().ok()).take(100).collect();
        assert!(waiting.len() < 100, "the backlog is never full");
        assert_eq!(refusal(common::server(driver).listen(url), &path), ErrorKind::AddrInUse);
        assert!(is_socket(&path));
    }

    fn what_is_not_a_socket_is_refused_and_never_removed(driver) {
        let directory = Directory::new();
        let (file, file_url) = directory.socket("file");
        fs::write(&file, "precious").unwrap();
        assert_eq!(refusal(common::server(driver).listen(file_url), &file), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&file).unwrap(), b"precious");

        let (empty, url) = directory.socket("empty");
        fs::create_dir(&empty).unwrap();
        assert_eq!(refusal(common::server(driver).listen(url), &empty), ErrorKind::AddrInUse);
        assert!(empty.is_dir());

        let (link, url) = directory.socket("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(refusal(common::server(driver).listen(url), &link), ErrorKind::AddrInUse);
        assert!(link.is_symlink() && file.exists());

        let (target, _) = directory.socket("left-over");
        drop(UnixListener::bind(&target).unwrap());
        let (link, url) = directory.socket("link-to-socket");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(refusal(common::server(driver).listen(url), &link), ErrorKind::AddrInUse);
        assert!(link.is_symlink() && is_socket(&target));
    }

    fn a_path_that_somebody_replaced_meanwhile_is_not_removed(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let server = greeting(common::server(driver).listen(&*url), "old");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        common::stop(server);
        assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
        fs::remove_file(&path).unwrap();

        let server = greeting(common::server(driver).listen(&*url), "old");
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        common::stop(server);
        UnixStream::connect(&path).expect("the other one's socket is still there");
        drop(other);
    }

    fn a_path_that_was_removed_meanwhile_is_no_trouble(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let server = greeting(common::server(driver).listen(&*url), "one");
        fs::remove_file(&path).unwrap();
        common::stop(server);
        assert!(!path.exists());
    }

    fn the_path_is_removed_when_a_running_server_is_dropped(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let (over, events) = common::events();
        let server = common::start(common::server(driver).listen(url), move |_| {
            let over = over.clone();
            Script::new().shutdown(move |_| over.send(()).unwrap())
        });
        assert!(is_socket(&path));
        drop(server);
        events.next();
        common::eventually("the path is gone", || !path.exists());
    }

    fn a_successor_that_starts_while_its_predecessor_ends_keeps_its_path(driver) {
        for _ in 0..20 {
            let directory = Directory::new();
            let (path, url) = directory.socket("socket");
            let (over, events) = common::events();
            let old = common::start(common::server(driver).listen(&*url), move |_| {
                let over = over.clone();
                Script::new().shutdown(move |_| over.send(()).unwrap())
            });
            old.stop();
            // Its listener is closed, its path still there or not; it was not joined yet.
            events.next();
            let new = greeting(common::server(driver).listen(&*url), "new");
            ended(old);
            assert!(is_socket(&path), "the old server removed the new one's path");
            assert_eq!(who(&path), "new");
            common::stop(new);
        }
    }

    fn bytes_written_to_a_unix_client_arrive_before_the_path_goes(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let server = common::start(common::server(driver).loops(2).listen(url), |_| Script::new());
        let mut clients: Vec<_> = (0..10).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for client in &mut clients {
            client.set_read_timeout(Some(common::DEADLINE)).unwrap();
            client.write_all(b"over").unwrap();
            assert_eq!(common::read(client, 4), b"over");
        }
        server.stop();
        for client in &mut clients {
            assert!(common::read_to_end(client).is_empty());
        }
        drop(clients);
        ended(server);
        assert!(!path.exists());
    }
}
