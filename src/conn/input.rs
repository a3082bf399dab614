//! [`Input`]: what a connection has received and its handler has not consumed yet.

use std::io::{self, BufRead, Read};

/// Received bytes, contiguous, with a cursor. Lent for the time of one callback, straight from
/// the loop's receive buffer where nothing was left over before.
///
/// Consuming is by [`take`](Input::take), [`take_all`](Input::take_all),
/// [`consume`](Input::consume) or a [`reader`](Input::reader). What is left is offered again.
///
/// ```
/// use tightloop::Input;
///
/// let mut input = Input::new(b"\x05hello\x05wor");
/// let length = usize::from(input.as_slice()[0]);
/// assert!(input.len() > length);
/// input.consume(1);
/// assert_eq!(input.take(length), Some(&b"hello"[..]));
/// // The second message is not whole yet: it stays for the next call.
/// assert_eq!(input.as_slice(), b"\x05wor");
/// ```
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Input<'a> {
    /// Input of one's own, to test a handler or a codec without a connection.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Input { bytes, length: bytes.len() }
    }

    /// What is not consumed yet, without consuming it.
    #[doc(alias = "Read")]
    #[doc(alias = "Peek")]
    #[inline]
    pub fn as_slice(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes that are not consumed yet.
    #[doc(alias = "BufferLength")]
    #[doc(alias = "InboundBuffered")]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything is consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes consumed since the callback began.
    #[inline]
    pub fn consumed(&self) -> usize {
        self.length - self.bytes.len()
    }

    /// The next `n` bytes without consuming them; `None` when there are fewer.
    #[doc(alias = "ReadN")]
    #[doc(alias = "Peek")]
    #[inline]
    pub fn peek(&self, n: usize) -> Option<&'a [u8]> {
        self.bytes.get(..n)
    }

    /// Consumes and returns the next `n` bytes; `None`, consuming nothing, when there are fewer.
    #[doc(alias = "Next")]
    #[doc(alias = "ReadN")]
    #[inline]
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(taken)
    }

    /// Consumes and returns everything.
    #[doc(alias = "ResetBuffer")]
    #[doc(alias = "Next")]
    #[inline]
    pub fn take_all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Consumes `n` bytes, or everything when there are fewer. Returns how many were consumed.
    #[doc(alias = "ShiftN")]
    #[doc(alias = "Discard")]
    #[inline]
    pub fn consume(&mut self, n: usize) -> usize {
        let n = n.min(self.bytes.len());
        self.bytes = &self.bytes[n..];
        n
    }

    /// For parsers that want an `io::Read` or `io::BufRead`; what is read is consumed. At the
    /// end of what is there it answers `Ok(0)`, though more may come with a later callback.
    #[doc(alias = "WriteTo")]
    pub fn reader(&mut self) -> InputReader<'_, 'a> {
        InputReader { input: self }
    }
}

/// [`Input`] as `io::Read` and `io::BufRead`; see [`Input::reader`].
#[derive(Debug)]
pub struct InputReader<'i, 'a> {
    input: &'i mut Input<'a>,
}

impl Read for InputReader<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input.bytes.read(into)
    }
}

impl BufRead for InputReader<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.input.bytes)
    }

    fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }
}

impl AsRef<[u8]> for Input<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_more_than_there_is_consumes_nothing() {
        let mut input = Input::new(b"abc");
        assert_eq!(input.take(4), None);
        assert_eq!(input.peek(4), None);
        assert_eq!(input.len(), 3);
        assert_eq!(input.take(0), Some(&b""[..]));
    }

    #[test]
    fn consuming_is_counted_whichever_way_it_is_done() {
        let mut input = Input::new(b"abcdefgh");
        input.take(1).unwrap();
        assert_eq!(input.consume(2), 2);
        let mut two = [0; 2];
        input.reader().read_exact(&mut two).unwrap();
        assert_eq!((&two, input.consumed()), (b"de", 5));
        assert_eq!(input.consume(100), 3);
        assert!(input.is_empty());
        assert_eq!(input.consumed(), 8);
    }
}
