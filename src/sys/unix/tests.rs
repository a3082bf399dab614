//! Paths: taken over, left alone and removed.

use super::*;
use crate::addr::Address;

use std::os::unix::net::{UnixDatagram, UnixListener};

/// A directory of one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("tightloop-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bind(path: &Path) -> io::Result<Listener> {
    bind_unix(path, &ListenOptions::for_tests())
}

fn bind_error(path: &Path) -> io::ErrorKind {
    bind(path).unwrap_err().kind()
}

#[test]
fn a_listener_is_bound_connected_to_and_its_path_removed_at_the_end() {
    let directory = Directory::new("bound");
    let path = directory.path("socket");
    let listener = bind(&path).unwrap();
    let address = Address::Unix(Some(Arc::from(path.as_path())));
    assert_eq!(listener.local_address().unwrap(), address);
    let stream = start_connect(&path, &SocketOptions::default()).unwrap();
    assert_eq!(stream.peer_address().unwrap(), address);
    assert_eq!(stream.local_address().unwrap(), Address::Unix(None));
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn the_path_of_a_dead_server_is_taken_over() {
    let directory = Directory::new("dead");
    let path = directory.path("socket");
    drop(UnixListener::bind(&path).unwrap());
    let _listener = bind(&path).unwrap();
    start_connect(&path, &SocketOptions::default()).unwrap();
}

#[test]
fn the_path_of_a_living_server_is_left_alone_even_if_its_backlog_is_full() {
    let directory = Directory::new("living");
    let path = directory.path("socket");
    let options = ListenOptions { backlog: 0, ..ListenOptions::for_tests() };
    let _listener = bind_unix(&path, &options).unwrap();
    assert_eq!(bind_error(&path), io::ErrorKind::AddrInUse);
    let connect = || start_connect(&path, &SocketOptions::default());
    let clients: Vec<_> = std::iter::from_fn(|| connect().ok()).take(64).collect();
    assert!(clients.len() < 64, "the backlog never filled");
    assert_eq!(bind_error(&path), io::ErrorKind::AddrInUse);
    assert!(path.exists());
}

#[test]
fn what_is_no_stream_socket_is_never_removed() {
    let directory = Directory::new("other");
    let file = directory.path("file");
    fs::write(&file, "precious").unwrap();
    assert_eq!(bind_error(&file), io::ErrorKind::AddrInUse);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    let folder = directory.path("folder");
    fs::create_dir(&folder).unwrap();
    assert_eq!(bind_error(&folder), io::ErrorKind::AddrInUse);
    assert!(folder.is_dir());

    let datagram = directory.path("datagram");
    let _living = UnixDatagram::bind(&datagram).unwrap();
    assert_eq!(bind_error(&datagram), io::ErrorKind::AddrInUse);
    assert!(datagram.exists());
}

#[test]
fn a_link_to_a_dead_socket_is_neither_followed_nor_removed() {
    let directory = Directory::new("link");
    let (socket, link) = (directory.path("socket"), directory.path("link"));
    drop(UnixListener::bind(&socket).unwrap());
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    assert_eq!(bind_error(&link), io::ErrorKind::AddrInUse);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(socket.exists());
}

#[test]
fn a_listener_that_ends_leaves_the_path_of_its_successor() {
    let directory = Directory::new("successor");
    let path = directory.path("socket");
    let first = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _successor = bind(&path).unwrap();
    drop(first);
    assert!(path.exists(), "the first server removed the second one's socket");
}

#[test]
fn a_connect_to_nobody_fails_at_once() {
    let directory = Directory::new("nobody");
    let error = start_connect(&directory.path("none"), &SocketOptions::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
