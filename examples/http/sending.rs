//! Long answers, of which no more is written than may wait for the client.

use bytes::Bytes;
use tightloop::Conn;

use crate::codec::Persistence;
use crate::server::HIGH_WATERMARK;

/// What `/bytes/N` is made of, as often as it takes: each byte tells its place.
static BLOCK: [u8; 251 * 256] = block();

const fn block() -> [u8; 251 * 256] {
    let mut block = [0; 251 * 256];
    let mut at = 0;
    while at < block.len() {
        block[at] = (at % 251) as u8;
        at += 1;
    }
    block
}

/// An answer that is not taken yet: so many bytes are still to be written.
pub struct Sending {
    pub left: u64,
    pub persistence: Persistence,
}

impl Sending {
    /// Writes until enough waits for the peer, and answers whether that was the end.
    pub fn go_on(&mut self, conn: &mut Conn<'_>) -> bool {
        let block = Bytes::from_static(&BLOCK);
        while self.left > 0 {
            let length = self.left.min(block.len() as u64);
            self.left -= length;
            if conn.write_bytes(block.slice(..length as usize)) > HIGH_WATERMARK {
                break;
            }
        }
        self.left == 0
    }
}
