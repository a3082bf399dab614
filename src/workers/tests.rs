//! Tests of the worker pool. They wait on channels, or on the pool's own figures, with a deadline.

use super::*;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

/// Far more than anything here takes, so that it passes only when something hangs.
const DEADLINE: Duration = Duration::from_secs(30);

fn pool(max_threads: usize, queue_capacity: usize) -> WorkerPool {
    WorkerPool::new(WorkerOptions { max_threads, queue_capacity, ..WorkerOptions::default() })
}

/// Waits until the pool's figures are as wanted: what a job cannot report, since it happens after
/// it.
fn wait_for(pool: &WorkerPool, wanted: impl Fn(&WorkerStats) -> bool) -> WorkerStats {
    let start = Instant::now();
    loop {
        let stats = pool.stats();
        if wanted(&stats) {
            return stats;
        }
        assert!(start.elapsed() < DEADLINE, "still {stats:?}");
        thread::yield_now();
    }
}

fn stop_and_join(pool: &WorkerPool) -> WorkerStats {
    pool.stop();
    assert!(pool.join(DEADLINE), "threads left: {pool:?}");
    pool.stats()
}

/// Gives the pool a job that holds its thread until the returned sender is dropped, and waits until
/// it runs.
fn occupy(pool: &WorkerPool) -> Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    pool.try_spawn(move || {
        started.send(()).unwrap();
        let _ = released.recv();
    })
    .unwrap();
    has_started.recv_timeout(DEADLINE).expect("the job does not start");
    release
}

fn sender_job<T: Send + 'static>(value: T) -> (impl FnOnce() + Send + 'static, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (move || sender.send(value).unwrap(), receiver)
}

#[test]
fn handle_is_send_and_sync() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<WorkerPool>();
}

#[test]
fn pool_grows_on_demand_shrinks_when_idle_and_grows_again() {
    let idle_timeout = Duration::from_millis(20);
    let pool = WorkerPool::new(WorkerOptions { idle_timeout, ..WorkerOptions::default() });
    assert_eq!(pool.stats(), WorkerStats::default());
    let releases: Vec<_> = (0..3).map(|_| occupy(&pool)).collect();
    let stats = pool.stats();
    assert_eq!((stats.threads, stats.idle, stats.queued), (3, 0, 0));
    drop(releases);
    assert!(pool.join(DEADLINE), "idle threads do not end");
    let stats = pool.stats();
    assert_eq!((stats.threads, stats.idle, stats.completed), (0, 0, 3));
    drop(occupy(&pool));
    assert_eq!(stop_and_join(&pool).completed, 4);
}

#[test]
fn idle_thread_is_reused_before_another_is_started() {
    let pool = pool(8, 8);
    for round in 1..=100 {
        let (job, receiver) = sender_job(());
        pool.try_spawn(job).unwrap();
        receiver.recv_timeout(DEADLINE).unwrap();
        let stats = wait_for(&pool, |stats| stats.completed == round);
        assert_eq!((stats.threads, stats.idle), (1, 1));
    }
}

#[test]
fn threads_are_limited_and_zero_counts_as_one() {
    for max_threads in [0, 1] {
        let pool = pool(max_threads, 1);
        let release = occupy(&pool);
        let (job, receiver) = sender_job("waited");
        pool.try_spawn(job).unwrap();
        let stats = pool.stats();
        assert_eq!((stats.threads, stats.queued), (1, 1));
        drop(release);
        assert_eq!(receiver.recv_timeout(DEADLINE), Ok("waited"));
    }
}

#[test]
fn full_queue_gives_the_job_back_and_it_can_still_be_run() {
    let pool = pool(1, 1);
    let release = occupy(&pool);
    pool.try_spawn(|| ()).unwrap();
    let (job, receiver) = sender_job(7);
    let error = pool.try_spawn(job).unwrap_err();
    assert!(matches!(error, SpawnError::Full(_)), "{error:?}");
    assert_eq!(pool.stats().rejected, 1);
    error.into_job()();
    assert_eq!(receiver.try_recv(), Ok(7));
    drop(release);
    assert_eq!(stop_and_join(&pool).completed, 2);
}

#[test]
fn without_a_queue_jobs_are_taken_as_long_as_a_thread_is_free() {
    let pool = pool(2, 0);
    let releases = [occupy(&pool), occupy(&pool)];
    assert!(matches!(pool.try_spawn(|| ()), Err(SpawnError::Full(_))));
    drop(releases);
    wait_for(&pool, |stats| stats.idle == 2);
    pool.try_spawn(|| ()).unwrap();
    assert_eq!(stop_and_join(&pool).completed, 3);
}

#[test]
fn panic_is_counted_and_the_thread_lives_on() {
    let pool = pool(1, 8);
    let (sender, receiver) = mpsc::channel();
    let say_thread = move || sender.send(thread::current().id()).unwrap();
    pool.try_spawn(say_thread.clone()).unwrap();
    pool.try_spawn(|| panic!("text")).unwrap();
    pool.try_spawn(|| panic!("formatted {}", 1)).unwrap();
    pool.try_spawn(|| std::panic::panic_any(1)).unwrap();
    pool.try_spawn(say_thread).unwrap();
    let first = receiver.recv_timeout(DEADLINE).unwrap();
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(first));
    let stats = stop_and_join(&pool);
    assert_eq!((stats.panicked, stats.completed), (3, 2));
}

#[test]
fn done_gets_the_result_or_the_panic_exactly_once() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("payload panics when dropped");
        }
    }
    let pool = pool(1, 8);
    let (sender, receiver) = mpsc::channel();
    let done = move |result: Result<i32, JobPanic>| {
        sender.send(result.map_err(|panic| panic.message)).unwrap();
    };
    pool.try_spawn_with(|| 42, done.clone()).unwrap();
    pool.try_spawn_with(|| panic!("text"), done.clone()).unwrap();
    pool.try_spawn_with(|| panic!("formatted {}", 1), done.clone()).unwrap();
    pool.try_spawn_with(|| std::panic::panic_any(Bomb), done).unwrap();
    let stats = stop_and_join(&pool);
    let results: Vec<_> = receiver.iter().collect();
    let not_text = "(the panic's payload is not text)".to_owned();
    assert_eq!(results, [Ok(42), Err("text".into()), Err("formatted 1".into()), Err(not_text)]);
    assert_eq!((stats.completed, stats.panicked), (1, 3));
}

#[test]
fn panic_of_done_is_counted_and_the_thread_lives_on() {
    let pool = pool(1, 8);
    pool.try_spawn_with(|| (), |_| panic!("done fails")).unwrap();
    let (job, receiver) = sender_job("alive");
    pool.try_spawn(job).unwrap();
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok("alive"));
    let stats = stop_and_join(&pool);
    assert_eq!((stats.completed, stats.panicked), (1, 1));
}

#[test]
fn stop_runs_what_was_accepted_and_gives_later_jobs_back() {
    let pool = pool(1, 100);
    let release = occupy(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let ran = ran.clone();
        pool.try_spawn(move || assert!(ran.fetch_add(1, Ordering::Relaxed) < 100)).unwrap();
    }
    pool.stop();
    let error = pool.try_spawn_with(|| 5, |_| panic!("not called")).unwrap_err();
    assert!(matches!(error, SpawnError::Stopped(_)), "{error:?}");
    let (job, _done) = error.into_job();
    assert_eq!(job(), 5);
    assert!(!pool.join(Duration::ZERO), "a job still runs");
    drop(release);
    let stats = stop_and_join(&pool);
    assert_eq!(ran.load(Ordering::Relaxed), 100);
    assert_eq!((stats.completed, stats.rejected, stats.queued), (101, 1, 0));
}

#[test]
fn last_handle_dropped_inside_a_job_neither_deadlocks_nor_loses_jobs() {
    let pool = pool(1, 8);
    let release = occupy(&pool);
    let moved = pool.clone();
    pool.try_spawn(move || drop(moved)).unwrap();
    let (job, receiver) = sender_job("ran after the pool was dropped");
    pool.try_spawn(job).unwrap();
    let shared = Arc::downgrade(&pool.owner.shared);
    drop(pool);
    drop(release);
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok("ran after the pool was dropped"));
    let start = Instant::now();
    while shared.strong_count() > 0 {
        assert!(start.elapsed() < DEADLINE, "the thread outlives the pool");
        thread::yield_now();
    }
}

#[test]
fn ten_thousand_jobs_of_four_threads_run_exactly_once() {
    let pool = pool(4, 64);
    let runs: Arc<Vec<AtomicUsize>> = Arc::new((0..10_000).map(|_| AtomicUsize::new(0)).collect());
    thread::scope(|scope| {
        for spawner in 0..4 {
            let (pool, runs) = (pool.clone(), &runs);
            scope.spawn(move || {
                for number in (spawner..10_000).step_by(4) {
                    let runs = Arc::clone(runs);
                    let job = move || assert_eq!(runs[number].fetch_add(1, Ordering::Relaxed), 0);
                    let mut outcome = pool.try_spawn(job);
                    while let Err(error) = outcome {
                        assert!(matches!(error, SpawnError::Full(_)), "{error:?}");
                        thread::yield_now();
                        outcome = pool.try_spawn(error.into_job());
                    }
                }
            });
        }
    });
    let stats = stop_and_join(&pool);
    assert!(runs.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    assert_eq!((stats.completed, stats.panicked, stats.queued), (10_000, 0, 0));
}

#[test]
fn job_waits_for_another_thread_when_the_system_refuses_one_and_comes_back_when_there_is_none() {
    static REFUSE: AtomicBool = AtomicBool::new(true);
    fn start(name: String, shared: Arc<Shared>) -> io::Result<()> {
        if REFUSE.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        start_system_thread(name, shared)
    }
    let pool = WorkerPool::with_starter(WorkerOptions::default(), start);
    let error = pool.try_spawn(|| ()).unwrap_err();
    assert!(matches!(error, SpawnError::NoThread(..)), "{error:?}");
    assert!(error.source().is_some());
    assert_eq!(pool.stats().threads, 0);
    REFUSE.store(false, Ordering::Relaxed);
    let release = occupy(&pool);
    REFUSE.store(true, Ordering::Relaxed);
    let (job, receiver) = sender_job("waited");
    pool.try_spawn(job).unwrap();
    drop(release);
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok("waited"));
    let stats = stop_and_join(&pool);
    assert_eq!((stats.completed, stats.rejected, stats.refused_threads), (2, 1, 2));
}

#[test]
fn threads_carry_the_prefix_and_a_number() {
    let name_prefix = "disk\0".to_owned();
    let pool = WorkerPool::new(WorkerOptions { name_prefix, ..WorkerOptions::default() });
    let (sender, receiver) = mpsc::channel();
    let done = move |name| sender.send(name).unwrap();
    pool.try_spawn_with(|| thread::current().name().map(str::to_owned), done).unwrap();
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(Ok(Some("disk-0".to_owned()))));
}
