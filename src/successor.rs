//! Hot restart: a running server starts the process that takes over from it ([`Successor`]).

use std::fmt::Write;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::control::ServerHandle;
use crate::inherited::{READY, SYSTEMD, VARIABLE};
use crate::listen_socket::{Listened, closed};
use crate::sys::inherit;

/// How long a process that will not get ready may take to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between looks at something that ought to happen at once.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// A process that was started by [`ServerHandle::start_successor`] and has not taken over yet.
///
/// Dropping it ends the process, unless it has said that it serves.
///
/// ```no_run
/// # use std::{process::Command, time::Duration};
/// # use tightloop::ServerHandle;
/// /// The same program once more, in place of this process.
/// fn replace(server: &ServerHandle) -> std::io::Result<()> {
///     let command = Command::new(std::env::current_exe()?);
///     let mut successor = server.start_successor(command)?;
///     successor.wait_until_ready(Duration::from_secs(30))?;
///     server.release_listeners();
///     // Wait until `is_drained`, as long as your patience goes.
///     server.stop();
///     Ok(())
/// }
/// ```
#[must_use = "dropping a successor ends it, unless it serves"]
#[derive(Debug)]
pub struct Successor {
    /// `None` once it was given away.
    child: Option<Child>,
    ready: UnixStream,
    serves: bool,
}

impl ServerHandle {
    /// Starts `command` with duplicates of this server's listening sockets, which that process gets
    /// by [`Inherited::take`](crate::Inherited::take). This server goes on to serve: until one of
    /// them releases the listeners, both accept. Then:
    ///
    /// 1. [`Successor::wait_until_ready`]: if that fails, this server goes on as if nothing had been.
    ///    (Whom the other one had accepted before it failed is lost: see
    ///    [`Inherited::ready`](crate::Inherited::ready));
    /// 2. [`release_listeners`](ServerHandle::release_listeners): this server accepts no more;
    /// 3. wait for [`is_drained`](ServerHandle::is_drained), as long as your patience goes, and tell
    ///    the clients to come again, if the protocol has a way to (`Connection: close`);
    /// 4. [`stop`](ServerHandle::stop).
    ///
    /// No client is refused or reset, as the sockets are the same in both processes, with their
    /// backlogs. The example `hot_restart` does all of this. A program that knows nothing of it
    /// ignores the sockets, is never ready, and is ended.
    ///
    /// Besides the sockets the child has the variable `TIGHTLOOP_LISTENERS`, and neither
    /// `LISTEN_FDS` and its like nor `WATCHDOG_PID`, which are about this process.
    ///
    /// **Blocks** until the process exists. On Unix systems.
    ///
    /// # Errors
    /// `NotConnected` once this server has stopped accepting; the system's, where the program
    /// cannot be started or there are no descriptors left.
    pub fn start_successor(&self, mut command: Command) -> io::Result<Successor> {
        let (ready, its_end) = UnixStream::pair()?;
        let mut descriptors = vec![OwnedFd::from(its_end)];
        let mut told = descriptors[0].as_raw_fd().to_string();
        self.shared.listening.with(|listened| {
            if listened.is_empty() {
                return Err(closed());
            }
            let mut all = listened.iter().enumerate();
            all.try_for_each(|(n, listened)| tell(n, listened, &mut descriptors, &mut told))
        })?;
        for name in SYSTEMD.into_iter().chain(["WATCHDOG_PID"]) {
            command.env_remove(name);
        }
        command.env(VARIABLE, told);
        inherit::give(&mut command, descriptors);
        // Our duplicates go with the command, so that the end of the child is the end of `ready`.
        let child = command.spawn()?;
        Ok(Successor { child: Some(child), ready, serves: false })
    }
}

/// Adds a listener's sockets to what is handed over.
fn tell(
    number: usize,
    listened: &Listened,
    descriptors: &mut Vec<OwnedFd>,
    told: &mut String,
) -> io::Result<()> {
    let Listened { name, sockets, path } = listened;
    if name.contains('\n') {
        let message = format!("there is a line break in the address {name:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let file = path.as_ref().map(|path| path.file());
    let file = file.map_or("-".to_owned(), |(device, inode)| format!("{device}:{inode}"));
    for socket in sockets {
        let owned = OwnedFd::from(socket.try_clone()?);
        let (fd, identity) = (owned.as_raw_fd(), inherit::identity(&owned)?);
        descriptors.push(owned);
        // Writing to a string does not fail.
        let _ = write!(told, "\n{number} {fd} {identity} {file} {name}");
    }
    Ok(())
}

impl Successor {
    /// The process's number; 0 once it was ended because it did not get ready.
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Waits until the process says that it serves ([`Inherited::ready`](crate::Inherited::ready)).
    /// **Blocks**: not for the thread of an event loop.
    ///
    /// # Errors
    /// `TimedOut` if it does not say so within `patience`, `BrokenPipe` if it has ended, with how, or
    /// can say nothing any more. It is ended then (after a second, if it may be about to end by
    /// itself), and waited for, so that none is left that half serves.
    pub fn wait_until_ready(&mut self, patience: Duration) -> io::Result<()> {
        if self.serves {
            return Ok(());
        }
        // None is so far away that it cannot be told.
        let error = match self.hear(Instant::now().checked_add(patience)) {
            Ok(()) => {
                self.serves = true;
                return Ok(());
            }
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.let_it_end();
        }
        let ended = self.end();
        let ended = ended.map_or(String::new(), |status| format!(" ({status})"));
        Err(io::Error::new(error.kind(), format!("{error}{ended}")))
    }

    /// The process itself, which goes on, ready or not: whoever wants to know how it ends asks it.
    /// `None` if it was ended because it did not get ready.
    pub fn into_child(mut self) -> Option<Child> {
        self.child.take()
    }

    fn hear(&mut self, end: Option<Instant>) -> io::Result<()> {
        let mut said = [0];
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // Zero would be no bound at all.
            self.ready.set_read_timeout(left.map(|left| left.max(LAST_LOOK)))?;
            match self.ready.read(&mut said) {
                Ok(1) if said[0] == READY => return Ok(()),
                Ok(_) => {
                    let message = "the successor ended before it was ready";
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, message));
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
            // Behind the look: one that has said so just in time serves.
            if left.is_some_and(|left| left.is_zero()) {
                let message = "the successor did not get ready in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
        }
    }

    /// A process that has closed its end is about to say what is wrong, and to end with a status:
    /// both are worth a moment.
    fn let_it_end(&mut self) {
        let Some(child) = &mut self.child else { return };
        let end = Instant::now() + LAST_WORDS;
        // There is no wait with a bound.
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(LAST_LOOK);
        }
    }

    /// Ends the process, if it has not ended yet, and answers how it has.
    fn end(&mut self) -> Option<std::process::ExitStatus> {
        let mut child = self.child.take()?;
        let ended = child.try_wait().ok().flatten();
        ended.or_else(|| {
            child.kill().ok()?;
            child.wait().ok()
        })
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.serves {
            let _ = self.end();
        }
    }
}
