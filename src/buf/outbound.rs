//! The bytes that a connection still has to send: a queue of chunks.
//!
//! A chunk is a buffer of the loop's pool, filled from the front, or a shared `Bytes` that is sent
//! without copying it. Small writes are gathered in the last chunk's spare capacity, so a thousand
//! of them leave as one slice. An empty `Outbound` is one null pointer; queue and buffers come from
//! the pool and go back as soon as everything is sent.
//!
//! INVARIANT 1 (stable memory): the bytes of a chunk neither move nor change until `advance` or
//! `clear` drops them. Chunks are never reallocated: when the last one is full, a new one follows.
//! A driver may therefore leave slices of it with the kernel while more is appended.
//! INVARIANT 2: `len` is the sum of the unsent bytes of the chunks; no chunk is empty; `sent` is
//! less than the length of the first chunk; there is a queue exactly while `len > 0`.
//!
//! The first chunk has a place of its own: the only one of nearly every message is found without the
//! detour by the others' queue.

use super::pool::{CLASS_BYTES, Pool};
use super::writer::Writer;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// The first owned chunk: most answers fit.
const FIRST_CHUNK_BYTES: usize = CLASS_BYTES[0];

/// The largest owned chunk: 64 of them in one call are 4 MiB, more than a socket buffer takes, and
/// the last chunk of a queue wastes no more than this.
const LARGEST_CHUNK_BYTES: usize = CLASS_BYTES[2];

/// An owned chunk that follows a full one is larger by this: the step from class to class.
const CHUNK_GROWTH: usize = 4;

/// Shared bytes shorter than this are copied: a copy of that size costs about what a slice of its
/// own costs the kernel, and many small slices would use up the slices of a call.
const SHARED_MIN_BYTES: usize = 512;

/// Longer shared bytes are split: the length of a slice is 32 bits for Windows and for io_uring.
const SHARED_MAX_BYTES: usize = 1 << 30;

/// Bytes to be sent, in order. It has no `Drop`: [`clear`](Self::clear) it to return what it holds.
#[derive(Default)]
pub(crate) struct Outbound {
    queue: Option<Box<Queue>>,
}

/// What a non-empty [`Outbound`] points to; the pool recycles it with its allocation.
#[derive(Default)]
pub(super) struct Queue {
    first: Chunk,
    /// Those behind the first.
    others: VecDeque<Chunk>,
    /// Unsent bytes in all chunks.
    len: usize,
    /// Bytes of the first chunk that are already sent.
    sent: usize,
}

pub(super) enum Chunk {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Default for Chunk {
    fn default() -> Self {
        Chunk::Owned(Vec::new())
    }
}

impl Outbound {
    /// Bytes of memory that it holds, used or not. Looks at each chunk.
    pub(crate) fn held(&self) -> usize {
        let chunks = self.queue.iter().flat_map(|queue| queue.chunks());
        chunks
            .map(|chunk| match chunk {
                Chunk::Owned(buffer) => buffer.capacity(),
                Chunk::Shared(bytes) => bytes.len(),
            })
            .sum()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Copies `data` behind the bytes already there.
    #[inline(always)] // Once a message.
    pub(crate) fn append(&mut self, data: &[u8], pool: &mut Pool) {
        if data.is_empty() {
            return;
        }
        let queue = self.queue.get_or_insert_with(|| pool.take_warm_queue());
        queue.len += data.len();
        match &mut queue.first {
            Chunk::Owned(only)
                if queue.others.is_empty() && data.len() <= only.capacity() - only.len() =>
            {
                only.extend_from_slice(data);
            }
            _ => queue.append_behind(data, pool),
        }
    }

    /// Appends without copying; short ones are copied all the same, see [`SHARED_MIN_BYTES`].
    pub(crate) fn append_bytes(&mut self, mut data: Bytes, pool: &mut Pool) {
        if data.len() < SHARED_MIN_BYTES {
            return self.append(&data, pool);
        }
        let queue = self.queue.get_or_insert_with(|| pool.take_queue());
        queue.len += data.len();
        pool.hold(data.len());
        while data.len() > SHARED_MAX_BYTES {
            queue.push(Chunk::Shared(data.split_to(SHARED_MAX_BYTES)));
        }
        queue.push(Chunk::Shared(data));
        self.assert_invariants();
    }

    /// A writer that appends.
    pub(crate) fn writer<'a>(&'a mut self, pool: &'a mut Pool) -> Writer<'a> {
        Writer::new(self, pool)
    }

    /// The unsent bytes of the first chunk; empty only when there is nothing to send.
    #[inline]
    pub(crate) fn first(&self) -> &[u8] {
        let Some(queue) = &self.queue else {
            return &[];
        };
        &queue.first.as_slice()[queue.sent..]
    }

    /// How many slices everything would take.
    #[inline]
    pub(crate) fn chunks(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| 1 + queue.others.len())
    }

    /// How many of them are buffers of the pool.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn owned_chunks(&self) -> usize {
        let chunks = self.queue.iter().flat_map(|queue| queue.chunks());
        chunks.filter(|chunk| matches!(chunk, Chunk::Owned(_))).count()
    }

    /// Points `out` at the first chunks, in order, and returns at how many. None of them is empty.
    pub(crate) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let Some(queue) = &self.queue else {
            return 0;
        };
        let mut skipped = queue.sent;
        for (slice, chunk) in out.iter_mut().zip(queue.chunks()) {
            *slice = IoSlice::new(&chunk.as_slice()[skipped..]);
            skipped = 0;
        }
        out.len().min(self.chunks())
    }

    /// As `slices`, of the first `limit` bytes only.
    pub(crate) fn first_slices<'a>(&'a self, mut limit: usize, out: &mut [IoSlice<'a>]) -> usize {
        let filled = self.slices(out);
        let Some(queue) = &self.queue else { return 0 };
        let mut skipped = queue.sent;
        for (index, (slice, chunk)) in out.iter_mut().zip(queue.chunks()).enumerate() {
            if limit == 0 {
                return index;
            }
            let unsent = &chunk.as_slice()[skipped..];
            let part = &unsent[..unsent.len().min(limit)];
            *slice = IoSlice::new(part);
            limit -= part.len();
            skipped = 0;
        }
        filled
    }

    /// Copies the first `count` bytes behind those of `other`; `count <= len()`.
    pub(crate) fn copy_to(&self, other: &mut Outbound, mut count: usize, pool: &mut Pool) {
        debug_assert!(count <= self.len(), "copied {count} of {} bytes", self.len());
        let Some(queue) = &self.queue else { return };
        let mut skipped = queue.sent;
        for chunk in queue.chunks() {
            let unsent = &chunk.as_slice()[skipped..];
            let part = &unsent[..unsent.len().min(count)];
            other.append(part, pool);
            count -= part.len();
            skipped = 0;
        }
    }

    /// Drops the first `count` bytes, which have been sent; `count <= len()`.
    #[inline(always)] // Once a message.
    pub(crate) fn advance(&mut self, count: usize, pool: &mut Pool) {
        debug_assert!(count <= self.len(), "sent {count} of {} bytes", self.len());
        let Some(queue) = &mut self.queue else { return };
        if count >= queue.len {
            return self.clear(pool);
        }
        queue.len -= count;
        queue.sent += count;
        queue.drop_sent_chunks(pool);
        self.assert_invariants();
    }

    /// Drops everything and gives the memory back. Not while a slice of it is with the kernel.
    #[inline(always)] // Once a message.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        if let Some(mut queue) = self.queue.take() {
            queue.len = 0;
            queue.sent = 0;
            match &mut queue.first {
                // Of the size that a small message takes.
                Chunk::Owned(only)
                    if queue.others.is_empty() && only.capacity() == CLASS_BYTES[0] =>
                {
                    only.clear();
                    pool.give_warm_queue(queue);
                }
                _ => queue.recycle(pool),
            }
        }
    }

    /// The buffer with spare capacity that takes the next bytes: the last chunk if it has room,
    /// otherwise one that the pool keeps prepared and [`claim_spare`](Self::claim_spare) appends.
    pub(super) fn spare<'a>(&'a mut self, pool: &'a mut Pool) -> &'a mut Vec<u8> {
        let capacity =
            self.queue.as_ref().map_or(FIRST_CHUNK_BYTES, |queue| queue.next_capacity(0));
        match self.queue.as_mut().and_then(|queue| queue.tail_with_room()) {
            Some(tail) => tail,
            None => pool.prepare(capacity),
        }
    }

    /// Counts `count > 0` bytes as appended and returns the buffer that [`spare`](Self::spare)
    /// named, now the last chunk, for the caller to add just these bytes.
    ///
    /// # Panics
    /// If the buffer has less room than that.
    pub(super) fn claim_spare(&mut self, count: usize, pool: &mut Pool) -> &mut Vec<u8> {
        let spare = self.spare(pool);
        assert!(count > 0 && count <= spare.capacity() - spare.len(), "more bytes than room");
        let queue = self.queue.get_or_insert_with(|| pool.take_queue());
        queue.len += count;
        if queue.tail_with_room().is_none() {
            queue.push(Chunk::Owned(pool.take_prepared()));
        }
        // An owned chunk with room is last: it was there, or it has just been pushed.
        queue.tail_with_room().expect("the last chunk has room")
    }

    /// Checks INVARIANT 2 in debug builds.
    #[inline]
    pub(crate) fn assert_invariants(&self) {
        if cfg!(debug_assertions)
            && let Some(queue) = &self.queue
        {
            let total: usize = queue.chunks().map(|chunk| chunk.as_slice().len()).sum();
            assert_eq!(queue.len, total - queue.sent);
            assert!(queue.len > 0);
            assert!(queue.chunks().all(|chunk| !chunk.as_slice().is_empty()));
            assert!(queue.sent < queue.first.as_slice().len());
        }
    }
}

impl Queue {
    /// Bytes of memory it occupies itself, without its chunks' buffers.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.others.capacity() * size_of::<Chunk>()
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The first chunk is empty only in a queue that has none.
    fn push(&mut self, chunk: Chunk) {
        if self.first.as_slice().is_empty() {
            self.first = chunk;
        } else {
            self.others.push_back(chunk);
        }
    }

    fn last_mut(&mut self) -> &mut Chunk {
        self.others.back_mut().unwrap_or(&mut self.first)
    }

    /// Appends all of `data`, which is already counted, to the last chunk and behind it.
    #[inline(never)]
    fn append_behind(&mut self, mut data: &[u8], pool: &mut Pool) {
        if let Chunk::Owned(last) = self.last_mut() {
            data = fill(last, data);
        }
        while !data.is_empty() {
            let mut buffer = pool.take(self.next_capacity(data.len()));
            data = fill(&mut buffer, data);
            self.push(Chunk::Owned(buffer));
        }
    }

    /// The capacity of the next owned chunk, when `wanted` bytes are known to follow. It grows from
    /// chunk to chunk so that much pending output is in few of them.
    fn next_capacity(&self, wanted: usize) -> usize {
        let grown = match self.others.back().unwrap_or(&self.first) {
            Chunk::Owned(last) => last.capacity() * CHUNK_GROWTH,
            Chunk::Shared(_) => 0,
        };
        wanted.max(grown).clamp(FIRST_CHUNK_BYTES, LARGEST_CHUNK_BYTES)
    }

    /// Gives all chunks and then the queue back.
    #[inline(never)]
    fn recycle(mut self: Box<Self>, pool: &mut Pool) {
        self.take_first().recycle(pool);
        while let Some(chunk) = self.others.pop_front() {
            chunk.recycle(pool);
        }
        pool.give_queue(self);
    }

    /// Takes the first chunk, the only one, out of the queue.
    pub(super) fn take_first(&mut self) -> Chunk {
        std::mem::take(&mut self.first)
    }

    #[inline]
    fn tail_with_room(&mut self) -> Option<&mut Vec<u8>> {
        match self.last_mut() {
            Chunk::Owned(tail) if tail.len() < tail.capacity() => Some(tail),
            _ => None,
        }
    }

    /// Something of the last chunk is unsent.
    #[inline]
    fn drop_sent_chunks(&mut self, pool: &mut Pool) {
        while self.sent >= self.first.as_slice().len()
            && let Some(next) = self.others.pop_front()
        {
            self.sent -= self.first.as_slice().len();
            std::mem::replace(&mut self.first, next).recycle(pool);
        }
    }
}

impl Chunk {
    #[inline]
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(buffer) => buffer,
            Self::Shared(bytes) => bytes,
        }
    }

    #[inline]
    pub(super) fn recycle(self, pool: &mut Pool) {
        match self {
            Self::Owned(buffer) => pool.give(buffer),
            Self::Shared(bytes) => pool.let_go(bytes.len()),
        }
    }
}

/// Copies into the spare capacity as much as fits (INVARIANT 1) and returns the rest.
#[inline]
fn fill<'a>(buffer: &mut Vec<u8>, data: &'a [u8]) -> &'a [u8] {
    let room = buffer.capacity() - buffer.len();
    let (fitting, rest) = data.split_at(room.min(data.len()));
    buffer.extend_from_slice(fitting);
    rest
}
