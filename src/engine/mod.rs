//! Threads and life-cycle: booting -> running -> draining -> stopped.
//!
//! ```text
//!   start()                     each loop's thread
//!     bind everything
//!     spawn -----------------> make driver, handler, listeners
//!     all built? <------------ report
//!     go --------------------> on_boot
//!     all booted? <----------- report
//!     go --------------------> serve ... until stopped
//! ```
//! No loop serves before every loop has been built and booted, so an error leaves nothing
//! half-started: the sockets close as the parts are dropped. After start, the engine speaks to
//! loops through their mailboxes only.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::addr::Address;
use crate::conn::admission::Admission;
use crate::conn::handle::LoopHandle;
use crate::control::{LoopShared, ServerHandle, ServerShared};
use crate::error::Result;
use crate::handler::{Handler, LoopInfo};
use crate::listen_socket::Listening;
use crate::options::Options;
use crate::reactor::opening::ListenerPolicy;
use crate::reactor::{Parts, Placement};
use crate::sync::mailbox::Mailbox;
use crate::tls::MakeNamedSession;
use crate::workers::{WorkerOptions, WorkerPool};

mod acceptor;
mod choice;
mod listener;
mod thread;

pub(crate) use listener::given::Found;
pub(crate) use listener::{Listen, ListenOn};

use acceptor::Acceptor;
use choice::Choice;
use listener::Bound;
use thread::Threads;

/// How long the end of a server waits for jobs that still run on the worker pool. They cannot be
/// interrupted; the rest of the process should not hang on them.
const WORKERS_END: Duration = Duration::from_secs(1);

/// What holds where nothing else is said.
#[derive(Default)]
pub(crate) struct Defaults {
    pub(crate) listener: ListenerPolicy,
    /// The TLS of endpoints with `tls://`.
    pub(crate) tls_client: Option<MakeNamedSession>,
}

/// A server's threads, and what must outlive them.
pub(crate) struct Engine<H: Handler> {
    pub(crate) server: ServerHandle,
    pub(crate) loops: Arc<[LoopHandle<H>]>,
    pub(crate) workers: WorkerPool,
    threads: Threads,
}

impl<H: Handler> Engine<H> {
    /// Binds, starts the threads and boots the handlers.
    pub(crate) fn start<F>(
        options: Options,
        listen: Vec<Listen>,
        found: Found,
        defaults: &Defaults,
        factory: F,
    ) -> Result<Self>
    where
        F: Fn(LoopInfo) -> H + Send + Sync + 'static,
    {
        options.check()?;
        let count = options.loop_count();
        let Bound { addresses, shared, own, datagrams, policies, listened } =
            listener::bind_all(listen, found, &defaults.listener, &options, count)?;
        let policies: Arc<[ListenerPolicy]> = policies.into();
        let options = Arc::new(options);
        // With a single loop nobody else is needed to accept.
        let needs_acceptor = count > 1 && !shared.is_empty();
        let listens = (addresses, Listening::new(listened));
        let server = new_server(&options, count, needs_acceptor, listens, defaults);
        let workers = WorkerPool::new(WorkerOptions {
            max_threads: options.worker_threads,
            queue_capacity: options.worker_queue,
            ..WorkerOptions::default()
        });

        let mut threads = Threads::new(server.clone());
        let (for_acceptor, mut for_first) =
            if needs_acceptor { (shared, Vec::new()) } else { (Vec::new(), shared) };
        let factory = Arc::new(factory);
        let loops = loop_handles(&server);
        let places = server.shared.loops.iter().zip(own).zip(datagrams).enumerate();
        for (index, ((shared, own), datagram_sockets)) in places {
            let parts = Parts {
                shared: Arc::clone(shared),
                server: server.clone(),
                options: Arc::clone(&options),
                workers: workers.clone(),
                jobs: loops[index].jobs(),
                loops: Arc::clone(&loops),
                listeners: std::mem::take(&mut for_first).into_iter().chain(own).collect(),
                datagram_sockets,
                placement: Placement::Here,
                policies: Arc::clone(&policies),
            };
            let factory = Arc::clone(&factory);
            let make_handler = move |choice: Choice| factory(choice.loop_info(index, count));
            threads.spawn(format!("tl-loop-{index}"), index, parts, make_handler)?;
        }
        if let Some(shared) = &server.shared.acceptor {
            let parts = Parts {
                shared: Arc::clone(shared),
                server: server.clone(),
                options: Arc::clone(&options),
                workers: workers.clone(),
                jobs: Arc::new(Mailbox::new(1)),
                loops: Arc::default(),
                listeners: for_acceptor,
                datagram_sockets: Vec::new(),
                placement: Placement::Balanced {
                    balancer: (options.balancer)(),
                    socket_of: |stream| stream,
                },
                policies,
            };
            threads.spawn("tl-acceptor".to_owned(), count, parts, |_| Acceptor)?;
        }
        threads.boot()?;
        Ok(Engine { server, loops, workers, threads })
    }

    /// Waits until every loop has ended. The first loop that ended by an error tells it.
    pub(crate) fn join(&mut self) -> Result<()> {
        let result = self.threads.join();
        self.workers.stop();
        if !self.workers.join(WORKERS_END) {
            log::warn!("jobs on the worker pool outlive the server");
        }
        result
    }
}

/// A handle of each loop, each with a mailbox for jobs.
fn loop_handles<H: Handler>(server: &ServerHandle) -> Arc<[LoopHandle<H>]> {
    let jobs = || Arc::new(Mailbox::new(server.shared.options.mailbox_capacity));
    let loops = server.shared.loops.iter();
    loops.map(|shared| LoopHandle::new(Arc::clone(shared), jobs())).collect()
}

fn new_server(
    options: &Arc<Options>,
    loops: usize,
    acceptor: bool,
    (addresses, listening): (Vec<Address>, Listening),
    defaults: &Defaults,
) -> ServerHandle {
    let new = |index| Arc::new(LoopShared::new(index, options.mailbox_capacity));
    ServerHandle {
        shared: Arc::new(ServerShared {
            // Options::check holds the number below 2^16.
            loops: (0..loops).map(|index| new(index as u16)).collect(),
            acceptor: acceptor.then(|| new(u16::MAX)),
            addresses,
            options: Arc::clone(options),
            tls_client: defaults.tls_client.clone(),
            stopping: AtomicBool::new(false),
            admission: Admission::new(options, Instant::now()),
            balancer: OnceLock::new(),
            listening,
        }),
    }
}
