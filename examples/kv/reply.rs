//! The RESP codec's writing half: replies, gathered in one buffer and written in one piece.
//!
//! Long values are not copied into it: they are shared, and go between the stretches of the buffer.

use bytes::Bytes;
use tightloop::Conn;

use crate::server::GATHERED_BYTES;
use crate::value::INLINE_BYTES;

/// The number that a header begins with, and the CRLF.
const MAX_HEADER_BYTES: usize = 1 + 20 + 2;

/// What is kept of an empty one's memory: more than the replies of nearly all callbacks take.
const MAX_KEPT_BYTES: usize = 4 * GATHERED_BYTES;
const MAX_KEPT_SHARED: usize = 4096;

/// Replies in order.
#[derive(Default)]
pub struct Reply {
    bytes: Vec<u8>,
    /// Shared bytes, and where in `bytes` they belong.
    shared: Vec<(usize, Bytes)>,
    /// How many bytes those are.
    shared_bytes: usize,
    /// Whether the client has asked for RESP3.
    pub resp3: bool,
}

impl Reply {
    pub fn new(resp3: bool) -> Self {
        Reply { resp3, ..Reply::default() }
    }

    /// Bytes in it, those that are shared included.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it all to a connection, and is empty again.
    #[inline]
    pub fn write_to(&mut self, conn: &mut Conn<'_>) {
        if self.shared.is_empty() {
            conn.write(&self.bytes);
        } else {
            let mut from = 0;
            for (at, bytes) in self.shared.drain(..) {
                conn.write(&self.bytes[from..at]);
                conn.write_bytes(bytes);
                from = at;
            }
            conn.write(&self.bytes[from..]);
        }
        self.clear();
    }

    /// Keeps the memory for the next ones, but not that of a long reply.
    #[inline]
    fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.shared_bytes = 0;
        if self.bytes.capacity() > MAX_KEPT_BYTES {
            self.bytes = Vec::new();
        }
        if self.shared.capacity() > MAX_KEPT_SHARED {
            self.shared = Vec::new();
        }
    }

    /// Puts another one's replies behind its own.
    pub fn append(&mut self, other: Reply) {
        let offset = self.bytes.len();
        self.shared_bytes += other.shared_bytes;
        self.bytes.extend_from_slice(&other.bytes);
        self.shared.extend(other.shared.into_iter().map(|(at, bytes)| (offset + at, bytes)));
    }

    /// All of it in one piece.
    pub fn into_bytes(self) -> Vec<u8> {
        if self.shared.is_empty() {
            return self.bytes;
        }
        let mut whole = Vec::with_capacity(self.len());
        let mut from = 0;
        for (at, bytes) in &self.shared {
            whole.extend_from_slice(&self.bytes[from..*at]);
            whole.extend_from_slice(bytes);
            from = *at;
        }
        whole.extend_from_slice(&self.bytes[from..]);
        whole
    }

    /// Replies that were made elsewhere.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    pub fn status(&mut self, text: &str) {
        self.bytes.push(b'+');
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }

    /// An error. `text` begins with its code; what would end the line in the middle is blanked.
    #[cold]
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.bytes.push(b'-');
        let blank = |&byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
        let line = text.as_ref().iter().map(blank);
        self.bytes.extend(line);
        self.raw(b"\r\n");
    }

    pub fn integer(&mut self, number: i64) {
        if number < 0 {
            self.raw(b":-");
            self.number(number.unsigned_abs());
            self.raw(b"\r\n");
        } else {
            self.header(b':', number as usize);
        }
    }

    /// A string.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.bytes.reserve(value.len() + MAX_HEADER_BYTES + 2);
        self.header(b'$', value.len());
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A short string: the first `length` of these bytes. All of them are copied, which needs no
    /// loop, and what is too much is cut off.
    #[inline]
    pub fn bulk_inline(&mut self, length: u8, value: &[u8; INLINE_BYTES]) {
        let length = usize::from(length).min(INLINE_BYTES);
        let mut line = [b'$'; 5 + INLINE_BYTES + 2];
        let start = if length < 10 {
            line[1..4].copy_from_slice(&[b'0' + length as u8, b'\r', b'\n']);
            line[4..4 + INLINE_BYTES].copy_from_slice(value);
            4
        } else {
            let (tens, ones) = (length as u8 / 10, length as u8 % 10);
            line[1..5].copy_from_slice(&[b'0' + tens, b'0' + ones, b'\r', b'\n']);
            line[5..5 + INLINE_BYTES].copy_from_slice(value);
            5
        };
        line[start + length] = b'\r';
        line[start + length + 1] = b'\n';
        let end = self.bytes.len() + start + length + 2;
        self.bytes.extend_from_slice(&line);
        self.bytes.truncate(end);
    }

    /// A string that is not copied.
    pub fn bulk_shared(&mut self, value: Bytes) {
        self.header(b'$', value.len());
        self.shared_bytes += value.len();
        self.shared.push((self.bytes.len(), value));
        self.raw(b"\r\n");
    }

    /// There is no such value.
    #[inline]
    pub fn null(&mut self) {
        self.raw(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// There is no such list.
    pub fn null_array(&mut self) {
        self.raw(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    pub fn array(&mut self, elements: usize) {
        self.header(b'*', elements);
    }

    /// Pairs follow: in RESP2 an array of twice as many.
    pub fn map(&mut self, pairs: usize) {
        if self.resp3 {
            self.header(b'%', pairs);
        } else {
            self.header(b'*', pairs * 2);
        }
    }

    pub fn set(&mut self, elements: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, elements);
    }

    /// What was not asked for.
    pub fn push(&mut self, elements: usize) {
        self.header(if self.resp3 { b'>' } else { b'*' }, elements);
    }

    /// Text for people.
    pub fn verbatim(&mut self, text: &str) {
        if self.resp3 {
            self.header(b'=', text.len() + 4);
            self.raw(b"txt:");
            self.raw(text.as_bytes());
            self.raw(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    #[inline]
    fn header(&mut self, kind: u8, number: usize) {
        if number < 10 {
            self.raw(&[kind, b'0' + number as u8, b'\r', b'\n']);
        } else {
            self.bytes.push(kind);
            self.number(number as u64);
            self.raw(b"\r\n");
        }
    }

    fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        self.raw(decimal(number, &mut digits));
    }
}

/// A number as text.
#[inline]
pub fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            return &digits[at..];
        }
    }
}

/// As `decimal`, with its sign.
pub fn signed_decimal(number: i64) -> Vec<u8> {
    let mut digits = [0; 20];
    let sign: &[u8] = if number < 0 { b"-" } else { b"" };
    [sign, decimal(number.unsigned_abs(), &mut digits)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        let mut reply = Reply::new(false);
        for number in [0, 9, 10, -1, i64::MAX, i64::MIN] {
            reply.integer(number);
            assert_eq!(signed_decimal(number), number.to_string().into_bytes());
        }
        let expected =
            ":0\r\n:9\r\n:10\r\n:-1\r\n:9223372036854775807\r\n:-9223372036854775808\r\n";
        assert_eq!(reply.into_bytes(), expected.as_bytes());
    }

    #[test]
    fn shared_values_keep_their_place() {
        let mut reply = Reply::new(true);
        reply.bulk(b"a");
        reply.bulk_shared(Bytes::from_static(b"shared"));
        let mut more = Reply::new(true);
        more.bulk_shared(Bytes::from_static(b"x"));
        more.null();
        reply.append(more);
        let expected = b"$1\r\na\r\n$6\r\nshared\r\n$1\r\nx\r\n_\r\n";
        assert_eq!(reply.len(), expected.len());
        assert_eq!(reply.into_bytes(), expected);
    }

    #[test]
    fn the_memory_of_a_long_reply_is_not_kept() {
        let mut reply = Reply::new(false);
        reply.bulk(&vec![b'x'; GATHERED_BYTES]);
        reply.clear();
        assert!(reply.is_empty() && reply.bytes.capacity() >= GATHERED_BYTES);
        reply.bulk(&vec![b'x'; MAX_KEPT_BYTES + 1]);
        (0..=MAX_KEPT_SHARED).for_each(|_| reply.bulk_shared(Bytes::from_static(b"shared")));
        reply.clear();
        assert!(reply.is_empty());
        assert_eq!((reply.bytes.capacity(), reply.shared.capacity()), (0, 0));
    }

    #[test]
    fn short_strings_are_told_as_long_ones_are() {
        for length in 0..=INLINE_BYTES {
            let (mut one, mut other) = (Reply::new(false), Reply::new(false));
            let value = [b'v'; INLINE_BYTES];
            one.bulk_inline(length as u8, &value);
            other.bulk(&value[..length]);
            assert_eq!(one.into_bytes(), other.into_bytes());
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let mut reply = Reply::new(false);
        reply.error("ERR a\r\nb");
        assert_eq!(reply.into_bytes(), b"-ERR a  b\r\n");
    }
}
