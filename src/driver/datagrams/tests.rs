//! Connected sockets and the memory that they share, over real sockets on loopback.

use std::net::UdpSocket;

use super::*;

const TOKEN: Token = Token { index: 3, generation: 1 };

/// A driver's own kind of socket.
struct Own(UdpSocket);

impl DatagramSocket for Own {
    fn attempt<R>(&self, call: impl FnOnce(&SockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        call(&SockRef::from(&self.0))
    }
}

/// A connected socket and its peer.
fn pair() -> (Own, UdpSocket) {
    let [own, peer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    own.connect(peer.local_addr().unwrap()).unwrap();
    own.set_nonblocking(true).unwrap();
    peer.connect(own.local_addr().unwrap()).unwrap();
    (Own(own), peer)
}

fn next(datagrams: &mut Datagrams<Own>, socket: &Own) -> Vec<u8> {
    match datagrams.receive_pieces(TOKEN, socket, 1 << 16) {
        Ok(Some(Event::Received { buffer, .. })) => datagrams.bytes(&buffer).to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn for_one_that_stops_again_and_again_nothing_is_held() {
    let (socket, peer) = pair();
    let mut datagrams = Datagrams::default();
    for number in 0..10 {
        peer.send(&[number]).unwrap();
    }
    // It may stop at once, and does so, and again.
    for number in 0..3 {
        assert_eq!(next(&mut datagrams, &socket), [number]);
        datagrams.hold_pieces(TOKEN);
        assert_eq!(datagrams.held(TOKEN), 0);
    }
    // Where it has not, all come together.
    assert_eq!(next(&mut datagrams, &socket), [3]);
    assert_eq!(next(&mut datagrams, &socket), [4]);
    datagrams.hold_pieces(TOKEN);
    if cfg!(any(target_os = "linux", target_os = "android")) {
        assert_eq!(datagrams.held(TOKEN), 5);
    }
    // It is known for that until it has told a message without.
    peer.send(&[10]).unwrap();
    peer.send(&[11]).unwrap();
    for number in 5..11 {
        assert_eq!(next(&mut datagrams, &socket), [number]);
    }
    datagrams.hold_pieces(TOKEN);
    assert_eq!(datagrams.held(TOKEN), 0);
    assert_eq!(next(&mut datagrams, &socket), [11]);
}
