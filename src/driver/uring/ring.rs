//! The ring itself: how it is set up, how operations go in, how completions come out.
//!
//! INVARIANT 1 (one thread): the ring is made, entered and dropped on one thread, its loop's. It is
//! a DEFER_TASKRUN ring: the kernel touches memory that belongs to operations only during a call
//! that this thread makes into it. An accept alone may be handed to another thread of the kernel and
//! write its place at any time, which INVARIANT 1 of `accepts.rs` allows for.
//! INVARIANT 2 (open descriptors): an entry that names a descriptor leaves, by `submit` or `enter`,
//! before that descriptor is closed; so a number is never taken for another socket's. Where the
//! kernel takes no entries for want of memory, the descriptor stays open: see `close.rs`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

use crate::driver::uring::gather::{GATHER, Gathering};
use crate::driver::uring::tag::{Kind, Tag};
use crate::options::driver::DriverFallback;

/// IORING_REGISTER_RING_FDS, which the crate offers only on an object that borrows the ring.
const REGISTER_RING_FDS: libc::c_uint = 20;

/// IORING_UNREGISTER_RING_FDS.
const UNREGISTER_RING_FDS: libc::c_uint = 21;

/// IORING_ENTER_REGISTERED_RING.
const ENTER_REGISTERED_RING: libc::c_uint = 1 << 4;

/// How long the driver waits before it tries again what the kernel has refused for want of memory.
pub(super) const SHORT_OF_MEMORY: Duration = Duration::from_millis(10);

/// What an operation told of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub(super) tag: Tag,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation goes on.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that was used.
    #[inline]
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The error, if it failed.
    pub(super) fn error(&self) -> Option<i32> {
        (self.result < 0).then_some(-self.result)
    }
}

/// What to wait for while the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: what has happened is fetched.
    No,
    /// One completion, for so long (`None`: for ever).
    For(Option<Duration>),
}

/// A ring, with the completions that were taken from it.
pub(super) struct Ring {
    ring: IoUring,
    /// The ring's number for `enter`: registered, or the descriptor.
    number: RawFd,
    flags: libc::c_uint,
    fetched: VecDeque<Completion>,
    /// How many of these name a buffer.
    fetched_buffers: usize,
    gathering: Gathering,
    failed_sends: Vec<Completion>,
    /// How many receives have found no buffer.
    #[cfg(test)]
    pub(super) refused_receives: usize,
    /// How many entries of a call have memory in the kernel.
    #[cfg(test)]
    pub(super) takes: u32,
}

impl Ring {
    /// A ring of this size, made for the calling thread.
    pub(super) fn new(submissions: u32, completions: u32) -> Result<Self, DriverFallback> {
        let refused = |error: io::Error| DriverFallback::new("io_uring_setup", &error);
        let build = |has_array: bool| {
            let mut builder = IoUring::builder();
            builder
                .dontfork()
                .setup_clamp()
                .setup_submit_all()
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_cqsize(completions);
            if !has_array {
                builder.setup_no_sqarray();
            }
            builder.build(submissions)
        };
        // Kernels before 6.6 know no ring without an array.
        let ring = match build(false) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(true),
            other => other,
        };
        let ring = ring.map_err(refused)?;
        let mut probe = io_uring::Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|error| DriverFallback::new("IORING_REGISTER_PROBE", &error))?;
        let needed = [
            opcode::Send::CODE,
            opcode::RecvMulti::CODE,
            opcode::PollAdd::CODE,
            opcode::AsyncCancel::CODE,
        ];
        let params = ring.params();
        let has_all = needed.iter().all(|code| probe.is_supported(*code))
            && params.is_feature_ext_arg()
            && params.is_feature_nodrop()
            && params.is_feature_skip_cqe_on_success();
        if !has_all {
            let error = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            return Err(DriverFallback::new("an operation or a feature of io_uring", &error));
        }
        let fd = ring.as_raw_fd();
        let (number, flags) = match register(fd, REGISTER_RING_FDS, u32::MAX, fd as u64) {
            Ok(number) => (number, ENTER_REGISTERED_RING),
            // The descriptor serves as well, a little slower.
            Err(_) => (fd, 0),
        };
        let (fetched, failed_sends) = (VecDeque::new(), Vec::new());
        Ok(Ring {
            ring,
            number,
            flags,
            fetched,
            fetched_buffers: 0,
            gathering: Gathering::default(),
            failed_sends,
            #[cfg(test)]
            refused_receives: 0,
            #[cfg(test)]
            takes: u32::MAX,
        })
    }

    /// The kernel's side, to register things with it.
    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Entries that have not left yet.
    #[inline]
    pub(super) fn unsubmitted(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// Whether a further entry finds no room.
    #[inline]
    pub(super) fn is_full(&mut self) -> bool {
        self.ring.submission().is_full()
    }

    /// Puts an entry in; it leaves with the next `submit` or `enter`, or now for want of room.
    ///
    /// # Errors
    /// The kernel's, where there is no room and it takes none of those before.
    ///
    /// # Safety
    /// What the entry points to is valid until the operation has ended, and until then nobody
    /// writes what it reads, nor reads what it writes.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: &Entry) -> io::Result<()> {
        while self.is_full() {
            self.submit()?;
        }
        // SAFETY: the caller's claim.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(io::Error::other)
    }

    /// Has all entries leave, and waits for nothing.
    ///
    /// # Errors
    /// The kernel's; `EAGAIN` where it has not taken all.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        loop {
            let entries = self.unsubmitted() as u32;
            let result = self.call(entries, 0, 0, None);
            self.fetch();
            let taken = match result {
                Ok(taken) => taken,
                // Completions overflow: they are fetched now.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    self.enter(Wait::No)?;
                    0
                }
                Err(error) => return Err(error),
            };
            match self.unsubmitted() {
                0 => return Ok(()),
                _ if taken > 0 => {}
                // What must not be overtaken is still here.
                _ => return Err(io::Error::from_raw_os_error(libc::EAGAIN)),
            }
        }
    }

    /// Has all entries leave, and fetches completions.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        match wait {
            Wait::No => self.enter_for(0, None),
            Wait::For(timeout) => {
                let before = self.fetched.len();
                if let Some(least) = self.gathering.least(timeout) {
                    self.enter_for(least as u32, Some(GATHER))?;
                    self.gathering.gathered(least, self.fetched.len() - before);
                }
                if self.fetched.len() == before && self.failed_sends.is_empty() {
                    self.enter_for(1, timeout)?;
                }
                self.gathering.note(self.fetched.len() - before);
                Ok(())
            }
        }
    }

    /// Waits for so many completions, and no longer than the time.
    fn enter_for(&mut self, least: u32, timeout: Option<Duration>) -> io::Result<()> {
        let entries = self.unsubmitted() as u32;
        let mut result = self.get(entries, least, timeout);
        self.fetch();
        if least > 0 && self.fetched.is_empty() && result.as_ref().is_err_and(is_short_of_memory) {
            // It has taken nothing, and has not waited either.
            let pause = timeout.map_or(SHORT_OF_MEMORY, |timeout| timeout.min(SHORT_OF_MEMORY));
            result = self.get(0, least, Some(pause));
            self.fetch();
        }
        match result {
            Ok(_) => Ok(()),
            // What has not left leaves with the next call.
            Err(error) if is_short_of_memory(&error) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A signal; the time is over; completions were in the way.
                Some(libc::EINTR | libc::ETIME | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// A call that has so many entries leave, and waits.
    fn get(&mut self, entries: u32, least: u32, timeout: Option<Duration>) -> io::Result<i32> {
        let get = EnterFlags::GETEVENTS.bits();
        match timeout.map(Timespec::from) {
            None => self.call(entries, least, get, None),
            Some(time) => {
                let args = SubmitArgs::new().timespec(&time);
                self.call(entries, least, get | EnterFlags::EXT_ARG.bits(), Some(&args))
            }
        }
    }

    fn call(
        &mut self,
        entries: libc::c_uint,
        least: u32,
        flags: u32,
        args: Option<&SubmitArgs<'_, '_>>,
    ) -> io::Result<i32> {
        #[cfg(test)]
        let (entries, least) = match entries.min(self.takes) {
            // As the kernel does: who has not had all entries leave does not wait.
            0 if entries > 0 => return Err(io::Error::from_raw_os_error(libc::EAGAIN)),
            taken if taken < entries => (taken, 0),
            _ => (entries, least),
        };
        let (argument, size) = match args {
            Some(args) => (std::ptr::from_ref(args).cast(), size_of_val(args)),
            None => (std::ptr::null::<libc::c_void>(), 0),
        };
        let (number, flags) = (self.number, flags | self.flags);
        // SAFETY: `number` names this ring; the argument is null, or points to what EXT_ARG says it
        // is, with a time that lives through the call. What the entries point to is valid by the
        // contract of `push`.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, number, entries, least, flags, argument, size)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }

    /// Takes all completions, those that overflowed included.
    fn fetch(&mut self) {
        loop {
            for entry in self.ring.completion() {
                let (tag, result) = (Tag(entry.user_data()), entry.result());
                let completion = Completion { tag, result, flags: entry.flags() };
                match tag.is_send() {
                    true => self.failed_sends.push(completion),
                    false => {
                        #[cfg(test)]
                        (self.refused_receives += usize::from(result == -libc::ENOBUFS));
                        self.fetched_buffers += usize::from(completion.buffer().is_some());
                        self.fetched.push_back(completion);
                    }
                }
            }
            if !self.ring.submission().cq_overflow() {
                return;
            }
            // They come into the queue by a call; one that is interrupted is made again.
            let flushed = self.call(0, 0, EnterFlags::GETEVENTS.bits(), None);
            if flushed.is_err_and(|error| error.raw_os_error() == Some(libc::EBADF)) {
                return;
            }
        }
    }

    /// The next completion.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Completion> {
        let completion = self.fetched.pop_front()?;
        self.fetched_buffers -= usize::from(completion.buffer().is_some());
        Some(completion)
    }

    /// Buffers that completions name which were not looked at yet.
    pub(super) fn fetched_buffers(&self) -> usize {
        self.fetched_buffers
    }

    /// Whether completions wait to be looked at. What sends tell counts: who sleeps on it never
    /// learns that a full socket has left something over.
    #[inline]
    pub(super) fn has_completions(&self) -> bool {
        !self.fetched.is_empty() || !self.failed_sends.is_empty()
    }

    /// Whether something that this stream has received waits to be looked at.
    pub(super) fn has_received(&self, index: u32) -> bool {
        let is_its = |completion: &Completion| {
            let tag = completion.tag;
            tag.index() == index && tag.kind() == Some(Kind::Receive)
        };
        self.fetched.iter().any(is_its)
    }

    /// What sends have told since this was asked last: only failures do.
    #[inline]
    pub(super) fn failed_send(&mut self) -> Option<Completion> {
        self.failed_sends.pop()
    }
}

impl Drop for Ring {
    /// The registration would hold the ring until the thread has ended.
    fn drop(&mut self) {
        if self.flags & ENTER_REGISTERED_RING != 0
            && let Err(error) =
                register(self.ring.as_raw_fd(), UNREGISTER_RING_FDS, self.number as u32, 0)
        {
            log::debug!("a ring ends with its thread: {error}");
        }
    }
}

/// Whether the kernel had no memory for an entry. Those before it were taken.
fn is_short_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
}

/// Registers the ring's own descriptor, which spares each call the look-up, or undoes it; answers
/// the number that it has or had.
fn register(fd: RawFd, operation: libc::c_uint, offset: u32, data: u64) -> io::Result<RawFd> {
    #[repr(C)]
    struct Update {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    let mut update = Update { offset, reserved: 0, data };
    // SAFETY: the argument is one `struct io_uring_rsrc_update`, as the count says, and is written
    // during the call only.
    let result = unsafe {
        let update = std::ptr::from_mut(&mut update);
        libc::syscall(libc::SYS_io_uring_register, fd, operation, update, 1)
    };
    if result == 1 { Ok(update.offset as RawFd) } else { Err(io::Error::last_os_error()) }
}
