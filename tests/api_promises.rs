//! What users build on without naming it: which types cross threads and which do not, that all can be
//! printed, that errors are errors. Checked by the compiler, so the test has nothing to run.
//!
//! docs/api.txt lists the same; here stands what is meant.

use std::cell::Cell;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::marker::PhantomData;
use std::str::FromStr;

use tightloop::codec::{self, AnyCodec, Decoded, FramedState, Step};
use tightloop::proxy_protocol::{self, ProxyHeader, ProxyProtocol};
use tightloop::*;

/// A handler that must stay on its thread.
struct Local(PhantomData<*const ()>);

impl Handler for Local {
    type State = Cell<*const ()>;
    fn on_open(&mut self, _: &mut Conn<'_>) -> Self::State {
        Cell::new(std::ptr::null())
    }
    fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut Self::State, _: &mut Input<'_>) -> Action {
        Action::Continue
    }
}

#[derive(Debug)]
struct LocalFrames(PhantomData<*const ()>);

impl FrameHandler for LocalFrames {
    type Codec = AnyCodec;
    type State = Cell<*const ()>;
    fn codec(&mut self, _: &mut Conn<'_>) -> AnyCodec {
        codec::LineCodec::new(10).expect("a limit").into()
    }
    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) -> Self::State {
        Cell::new(std::ptr::null())
    }
    fn on_frame(&mut self, _: &mut FrameConn<'_, Self>, _: &mut Self::State, _: &[u8]) -> Action {
        Action::Continue
    }
}

trait Known: Debug {}
impl<T: Debug + ?Sized> Known for T {}
trait Shared: Known + Send + Sync + 'static {}
impl<T: Known + Send + Sync + 'static + ?Sized> Shared for T {}
trait Handle: Shared + Clone {}
impl<T: Shared + Clone> Handle for T {}
trait Value: Handle + Eq + Hash {}
impl<T: Handle + Eq + Hash> Value for T {}
trait Failure: Shared + Error + Display {}
impl<T: Shared + Error + Display> Failure for T {}
trait Setting: Handle + Default {}
impl<T: Handle + Default> Setting for T {}
trait Builder: Known + Send + Default {}
impl<T: Known + Send + Default> Builder for T {}
trait Parsed: Value + FromStr<Err = AddressError> + Display {}
impl<T: Value + FromStr<Err = AddressError> + Display> Parsed for T {}

/// `all!(Trait: Type, Type)` compiles where each type has the trait.
macro_rules! all {
    ($of:ident: $($kind:ty),+ $(,)?) => {{
        fn has<T: $of + ?Sized>() {}
        $(has::<$kind>();)+
    }};
}

/// `none!(Send: Type)` compiles only where no type has the trait: else two implementations fit, and
/// the compiler does not know which is meant.
macro_rules! none {
    ($of:ident: $($kind:ty),+ $(,)?) => {{
        trait Ambiguous<A> {
            fn chosen() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Has;
        impl<T: $of + ?Sized> Ambiguous<Has> for T {}
        $(<$kind as Ambiguous<_>>::chosen();)+
    }};
}

#[test]
fn handles_cross_threads_also_where_the_handler_does_not() {
    all!(Handle: ConnHandle, DatagramHandle, LoopHandle<Local>, ServerHandle, ClientHandle);
    all!(Handle: WorkerPool);
}

#[test]
fn what_belongs_to_a_loop_stays_there() {
    none!(Send: Conn<'_>, Context<'_, Local>, FrameConn<'_, LocalFrames>);
    none!(Sync: Conn<'_>, Context<'_, Local>, FrameConn<'_, LocalFrames>, Datagram<'_>);
    all!(Known: Conn<'_>, Context<'_, Local>, FrameConn<'_, LocalFrames>, Datagram<'_>, Input<'_>);
    all!(Known: InputReader<'_, '_>, Writer<'_>, Framed<LocalFrames>, FramedState<LocalFrames>);
}

#[test]
fn builders_and_what_runs_can_be_moved_to_another_thread() {
    all!(Builder: Server, Client);
    all!(Known: RunningServer<Local>, RunningClient<Local>);
    all!(Send: RunningServer<Local>, RunningClient<Local>);
}

#[test]
fn names_and_addresses_are_values() {
    all!(Value: Address, ConnId, Driver, Endpoint, IpNetwork, Transport, proxy_protocol::Version);
    all!(Parsed: Endpoint, IpNetwork);
    all!(Ord: ConnId);
}

#[test]
fn settings_and_codecs_can_be_shared_and_copied() {
    all!(Setting: Balance, PanicPolicy, WhenFull, WorkerOptions, Driver, Action);
    all!(Handle: Connect, Keepalive, LoopInfo, ProxyHeader, ProxyProtocol, Stats, WorkerStats);
    all!(Handle: AnyCodec, codec::DelimiterCodec, codec::FixedLengthCodec, codec::LengthFieldCodec);
    all!(Handle: codec::LineCodec, codec::VarintLengthCodec);
    all!(Shared: Decoded<&'static [u8]>, Step<&'static [u8]>, Direction, DriverFallback);
}

#[test]
fn errors_are_errors_that_cross_threads() {
    all!(Failure: tightloop::Error, AddressError, HandleError, DecodeError, EncodeError, TlsError);
    all!(Failure: JobPanic, SpawnError<fn()>, UnknownDriver);
    all!(Failure: proxy_protocol::ProxyError, proxy_protocol::ProxyEncodeError);
    all!(Shared: CloseReason, AddressFault);
    all!(Display: CloseReason, AddressFault);
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_configured_from_any_thread() {
    use tightloop::tls::{PemError, StartTls, TlsAcceptor, TlsConnector, TlsInfo, TlsVersion};
    all!(Handle: TlsAcceptor, TlsConnector, StartTls, TlsInfo);
    all!(Value: TlsVersion);
    all!(Failure: PemError);
}
