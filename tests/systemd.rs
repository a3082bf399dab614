//! The protocols of systemd, with this program in its part: sockets over `LISTEN_FDS`, and
//! notifications to `NOTIFY_SOCKET`.
#![cfg(unix)]

mod closures;
mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use closures::{Directory, test_path};
use common::Echo;
use tightloop::systemd::{Notifier, watchdog_interval};
use tightloop::{Context, Handler, Inherited, Server};

/// What the service is told to listen on and is to tell.
const ROLE: &str = "SYSTEMD_ROLE";

/// Starts the calling test once more, as a service with two sockets, as systemd would: at
/// descriptors 3 and 4, with the process's own number. What `variables` says is exported too.
fn service(path: &str, role: &str, sockets: [OwnedFd; 2], variables: &str) -> Child {
    let [first, second] = sockets;
    let script = format!(
        "exec 3<&0 4>&1 </dev/null >/dev/null; \
         export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:local {variables}; exec \"$0\" \"$@\""
    );
    Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", path, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::from(first))
        .stdout(Stdio::from(second))
        .spawn()
        .unwrap()
}

fn ask(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(b"question")?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)
}

/// What the service says next; none within the deadline fails the test.
fn hear(manager: &UnixDatagram) -> String {
    let mut text = [0; 500];
    let length = common::uninterrupted(|| manager.recv(&mut text));
    let length = length.expect("the service tells something");
    String::from_utf8(text[..length].to_vec()).unwrap()
}

/// Hears until the service says `wanted`, of what it says over and over.
fn hear_until(manager: &UnixDatagram, wanted: &str) {
    common::eventually(wanted, || hear(manager) == wanted);
}

/// Keeps the watchdog quiet as long as the loop turns.
struct Watched {
    notifier: Notifier,
    every: Duration,
}

impl Handler for Watched {
    type State = ();

    fn on_open(&mut self, _: &mut tightloop::Conn<'_>) {}

    fn on_traffic(
        &mut self,
        conn: &mut tightloop::Conn<'_>,
        _: &mut (),
        input: &mut tightloop::Input<'_>,
    ) -> tightloop::Action {
        if input.as_slice() == b"stop" {
            return tightloop::Action::Shutdown;
        }
        conn.write(input.take_all());
        tightloop::Action::Continue
    }

    fn on_tick(&mut self, _: &mut Context<'_, Self>) -> Option<Duration> {
        match self.notifier.watchdog() {
            Ok(()) => Some(self.every),
            // The test has failed: nobody is to be left behind.
            Err(_) => std::process::exit(1),
        }
    }
}

every_driver! {
    fn a_service_gets_its_sockets_and_tells_how_it_is(driver) {
        if let Ok(role) = std::env::var(ROLE) {
            return serve(driver, &role);
        }
        for is_abstract in [false, cfg!(target_os = "linux")] {
            let directory = Directory::new();
            let (path, _) = directory.socket("web");
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let to = tcp.local_addr().unwrap();
            let unix = UnixListener::bind(&path).unwrap();
            let (manager, name) = manager(&directory, is_abstract);
            manager.set_read_timeout(Some(common::DEADLINE)).unwrap();
            let variables = format!("NOTIFY_SOCKET='{name}' WATCHDOG_USEC=20000 WATCHDOG_PID=$$");
            let sockets = [tcp.try_clone().unwrap().into(), unix.try_clone().unwrap().into()];
            // Who comes before the service waits in the backlog.
            let early = common::connect(to);
            let role = format!("{to} {}", path.display());
            let test = test_path(driver, "a_service_gets_its_sockets_and_tells_how_it_is");
            let mut service = service(&test, &role, sockets, &variables);
            drop((tcp, unix));
            hear_until(&manager, "READY=1");
            hear_until(&manager, "STATUS=serving and well");
            hear_until(&manager, "WATCHDOG=1");
            hear_until(&manager, "WATCHDOG=1");
            ask(early).unwrap();
            ask(common::connect(to)).unwrap();
            ask(UnixStream::connect(&path).unwrap()).unwrap();
            common::connect(to).write_all(b"stop").unwrap();
            let mut last = String::new();
            common::eventually("the end", || {
                last = hear(&manager);
                last.starts_with("RELOADING=1")
            });
            let moment = last.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&last);
            assert!(moment.parse::<u64>().is_ok_and(|moment| moment > 0), "{last}");
            assert_eq!(hear(&manager), format!("MAINPID={}\nREADY=1", service.id()));
            assert_eq!(hear(&manager), "STOPPING=1");
            assert!(service.wait().unwrap().success());
            assert!(path.exists(), "the path is systemd's");
        }
    }

    fn sockets_are_had_by_their_names_too(driver) {
        if let Ok(role) = std::env::var(ROLE) {
            return serve_by_name(driver, &role);
        }
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let to = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let sockets = listeners.map(OwnedFd::from);
        let test = test_path(driver, "sockets_are_had_by_their_names_too");
        let role = format!("{} {}", to[0], to[1]);
        let mut service = service(&test, &role, sockets, "");
        for to in to {
            ask(common::connect(to)).unwrap();
        }
        common::connect(to[0]).write_all(b"stop").unwrap();
        assert!(service.wait().unwrap().success());
    }
}

/// The manager's socket, and what `NOTIFY_SOCKET` says of it.
#[cfg(target_os = "linux")]
fn manager(directory: &Directory, is_abstract: bool) -> (UnixDatagram, String) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let path = directory.0.join("notify");
    if !is_abstract {
        return (UnixDatagram::bind(&path).unwrap(), path.display().to_string());
    }
    let name = format!("tightloop{}", path.display());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
}

#[cfg(not(target_os = "linux"))]
fn manager(directory: &Directory, _: bool) -> (UnixDatagram, String) {
    let path = directory.0.join("notify");
    (UnixDatagram::bind(&path).unwrap(), path.display().to_string())
}

/// The service: a server on the sockets that it was given.
fn serve(driver: common::Driver, role: &str) {
    let (to, path) = role.split_once(' ').unwrap();
    let mut inherited = Inherited::take().unwrap();
    assert!(!inherited.is_successor());
    assert_eq!(inherited.names().collect::<Vec<_>>(), ["web", "local"]);
    assert!(Inherited::take().is_err(), "nothing is taken twice");
    let every = watchdog_interval().expect("the manager watches") / 2;
    assert_eq!(every, Duration::from_millis(10));
    let server = common::server(driver).inherit(&mut inherited);
    let server = server.listen(format!("tcp://{to}")).listen(format!("unix://{path}"));
    let told = || Notifier::from_env().unwrap().expect("somebody wants to know");
    let server = common::start(server, move |_| Watched { notifier: told(), every });
    inherited.ready().unwrap();
    let notifier = told();
    notifier.ready().unwrap();
    notifier.status("serving\nand well").unwrap();
    server.join().unwrap();
    notifier.reloading().unwrap();
    notifier.main_pid(std::process::id()).unwrap();
    notifier.stopping().unwrap();
}

fn serve_by_name(driver: common::Driver, role: &str) {
    let to: Vec<SocketAddr> = role.split(' ').map(|to| to.parse().unwrap()).collect();
    assert!(Notifier::from_env().unwrap().is_none() && watchdog_interval().is_none());
    let mut inherited = Inherited::take().unwrap();
    let server: Server = common::server(driver);
    assert!(inherited.take_named("other").is_empty());
    let server = server.listen_on(inherited.take_named("local"));
    let server = server.listen_on(inherited.take_named("web"));
    assert_eq!(inherited.names().count(), 0);
    let server = common::start(server, |_| StopEcho);
    assert_eq!(common::address(&server, 0), to[1]);
    assert_eq!(common::address(&server, 1), to[0]);
    server.join().unwrap();
}

/// Echo, until somebody says "stop".
struct StopEcho;

impl Handler for StopEcho {
    type State = ();

    fn on_open(&mut self, _: &mut tightloop::Conn<'_>) {}

    fn on_traffic(
        &mut self,
        conn: &mut tightloop::Conn<'_>,
        state: &mut (),
        input: &mut tightloop::Input<'_>,
    ) -> tightloop::Action {
        match input.as_slice() {
            b"stop" => tightloop::Action::Shutdown,
            _ => Echo.on_traffic(conn, state, input),
        }
    }
}
