//! [`ProxyProtocol`]: whom a listener believes, and who has to send a header.

use super::{DEFAULT_MAX_HEADER, MAX_HEADER};
use crate::addr::{Address, IpNetwork};

/// Fixed part and the longest addresses: what every header without vectors fits into.
const MIN_HEADER: usize = 16 + 2 * 108;

/// How a listener takes the PROXY protocol, for [`Server::proxy_protocol`] and
/// [`Server::listen_proxied`].
///
/// A header makes a connection's peer whoever it names, so nobody may send one but the proxies:
/// either nobody else can reach the listener ([`required`](Self::required)), or the proxies'
/// networks are told.
///
/// | | a peer in the trusted networks | another peer |
/// |---|---|---|
/// | `required()` | must send a header | there is none: every peer is trusted |
/// | `required().trusting(networks)` | must send a header | is refused |
/// | `optional(networks)` | may send a header | is served; a header is data like any other |
///
/// A peer on a Unix socket is in no network: give such a listener a `required()` of its own, as the
/// permissions of the file say who can connect.
///
/// ```
/// use tightloop::proxy_protocol::ProxyProtocol;
///
/// let behind_a_firewall = ProxyProtocol::required();
/// let by_address = ProxyProtocol::required().trusting(["10.0.0.0/8".parse()?, "fd00::/8".parse()?]);
/// let mixed = ProxyProtocol::optional(["10.0.0.7".parse()?]);
/// # Ok::<(), tightloop::AddressError>(())
/// ```
///
/// [`Server::proxy_protocol`]: crate::Server::proxy_protocol
/// [`Server::listen_proxied`]: crate::Server::listen_proxied
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    is_required: bool,
    /// `None`: everybody.
    trusted: Option<Vec<IpNetwork>>,
    max_header: usize,
}

/// What a connection's peer has to do with the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// It must send a header.
    Must,
    /// It may send a header.
    May,
    /// What it sends is no header, whatever it looks like.
    Never,
    /// It has no business here.
    Refused,
}

impl ProxyProtocol {
    /// Every connection begins with a header. Without [`trusting`](Self::trusting) everybody who
    /// can connect is believed: right where only proxies can.
    pub fn required() -> Self {
        ProxyProtocol { is_required: true, trusted: None, max_header: DEFAULT_MAX_HEADER }
    }

    /// Connections from these networks may begin with a header, others never do. Whether there is
    /// one is told by the first bytes: a trusted peer that sends none must be the first to speak,
    /// and say something that is not the beginning of a header.
    pub fn optional(trusted: impl IntoIterator<Item = IpNetwork>) -> Self {
        ProxyProtocol { is_required: false, ..Self::required().trusting(trusted) }
    }

    /// Believes peers in these networks only, in place of any that were told before. Where a
    /// header is required, others are refused before anything is read of them.
    #[must_use]
    pub fn trusting(mut self, networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        self.trusted = Some(networks.into_iter().collect());
        self
    }

    /// How long a header may be, in bytes, with its vectors: 232 to 65,551, default 4,096. A line
    /// of version 1 has 107 at most in any case.
    #[must_use]
    pub fn max_header(mut self, bytes: usize) -> Self {
        self.max_header = bytes;
        self
    }

    pub(crate) fn limit(&self) -> usize {
        self.max_header
    }

    pub(crate) fn asks_of(&self, peer: &Address) -> Sender {
        let is_trusted = self.trusted.as_ref().is_none_or(|networks| {
            peer.ip().is_some_and(|ip| networks.iter().any(|network| network.contains(ip)))
        });
        match (self.is_required, is_trusted) {
            (true, true) => Sender::Must,
            (true, false) => Sender::Refused,
            (false, true) => Sender::May,
            (false, false) => Sender::Never,
        }
    }

    /// What cannot be meant.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if !(MIN_HEADER..=MAX_HEADER).contains(&self.max_header) {
            return Some("a longest header must be of 232 to 65,551 bytes");
        }
        let nobody = self.trusted.as_ref().is_some_and(Vec::is_empty);
        (self.is_required && nobody).then_some("it is required, and nobody is trusted to send it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_and_duty_follow_the_peers_address() {
        let peer = |text: &str| Address::from(text.parse::<std::net::SocketAddr>().unwrap());
        let networks = || ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let (inside, mapped) = (peer("10.1.2.3:4"), peer("[::ffff:10.1.2.3]:4"));
        let (outside, unix) = (peer("11.1.2.3:4"), Address::Unix(None));
        let all = [&inside, &mapped, &peer("[::1]:4"), &outside, &unix];
        let asked = |policy: ProxyProtocol| all.map(|peer| policy.asks_of(peer));
        use Sender::{May, Must, Never, Refused};
        assert_eq!(asked(ProxyProtocol::required()), [Must; 5]);
        let trusting = ProxyProtocol::required().trusting(networks());
        assert_eq!(asked(trusting), [Must, Must, Must, Refused, Refused]);
        let optional = ProxyProtocol::optional(networks());
        assert_eq!(asked(optional), [May, May, May, Never, Never]);
        assert_eq!(asked(ProxyProtocol::optional([])), [Never; 5]);
    }

    #[test]
    fn what_cannot_be_meant_is_found() {
        assert_eq!(ProxyProtocol::required().fault(), None);
        assert_eq!(ProxyProtocol::optional([]).fault(), None);
        for bytes in [232, 65_551] {
            assert_eq!(ProxyProtocol::required().max_header(bytes).fault(), None);
        }
        for bytes in [0, 231, 65_552] {
            assert!(ProxyProtocol::required().max_header(bytes).fault().is_some());
        }
        assert!(ProxyProtocol::required().trusting([]).fault().is_some());
    }
}
