//! [`IpNetwork`]: a range of addresses that have their first bits in common.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::parse::{AddressError, AddressFault};

/// A network of IP addresses, parsed from `10.0.0.0/8`, `fd00::/8`, or one address alone.
///
/// Bits behind the prefix have to be zero: `10.0.0.1/8` may be meant as one or as the other. IPv4
/// addresses in IPv6 dress (`::ffff:10.0.0.1`) count as IPv4, in networks as in what they contain.
///
/// ```
/// # use tightloop::IpNetwork;
/// let network: IpNetwork = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.1.2.3".parse()?));
/// assert!(!network.contains("11.0.0.1".parse()?));
/// assert!("10.0.0.1/8".parse::<IpNetwork>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpNetwork {
    /// INVARIANT: its bits behind the prefix are zero, and it is no IPv4 address in IPv6 dress.
    first: IpAddr,
    /// INVARIANT: at most 32 or 128.
    prefix: u8,
}

impl IpNetwork {
    /// The network that begins at `first` and has `prefix` leading bits in common; `None` where
    /// there are not as many, or where `first` has bits behind them.
    pub fn new(first: IpAddr, prefix: u8) -> Option<Self> {
        let network = match (first, first.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(first)) if prefix >= 96 => {
                IpNetwork { first: first.into(), prefix: prefix - 96 }
            }
            _ => IpNetwork { first, prefix },
        };
        let fits = network.prefix <= network.bits();
        (fits && network.mask(bits_of(network.first)) == bits_of(network.first)).then_some(network)
    }

    /// The network's first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// How many leading bits its addresses have in common.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address is one of the network's.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && self.mask(bits_of(ip)) == bits_of(self.first)
    }

    fn bits(&self) -> u8 {
        if self.first.is_ipv4() { 32 } else { 128 }
    }

    /// `bits` with zeros behind the prefix.
    fn mask(&self, bits: u128) -> u128 {
        let behind = u32::from(self.bits() - self.prefix);
        // A shift by all 128 bits leaves nothing.
        bits.checked_shr(behind).and_then(|bits| bits.checked_shl(behind)).unwrap_or(0)
    }
}

fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The network of this address alone.
impl From<IpAddr> for IpNetwork {
    fn from(ip: IpAddr) -> Self {
        let first = ip.to_canonical();
        IpNetwork { first, prefix: if first.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for IpNetwork {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|fault| AddressError::new(text, fault))
    }
}

fn parse(text: &str) -> Result<IpNetwork, AddressFault> {
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().map_err(|_| AddressFault::BadNetwork)?;
    let Some(prefix) = prefix else { return Ok(ip.into()) };
    let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = is_number && (prefix == "0" || !prefix.starts_with('0'));
    let prefix: u8 = prefix.parse().map_err(|_| AddressFault::BadNetwork)?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if !is_canonical || prefix > most {
        return Err(AddressFault::BadNetwork);
    }
    IpNetwork::new(ip, prefix).ok_or(AddressFault::HostBits)
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn contains(text: &str, ip: &str) -> bool {
        network(text).contains(ip.parse().unwrap())
    }

    #[test]
    fn a_network_has_the_addresses_with_its_prefix() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("192.0.2.128/25", ["192.0.2.128", "192.0.2.255"], ["192.0.2.127", "192.0.3.128"]),
            ("192.0.2.7/32", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.7", ["192.0.2.7", "192.0.2.7"], ["192.0.2.6", "::192.0.2.7"]),
            ("fd00::/8", ["fd00::", "fdff::1"], ["fc00::", "fe00::"]),
            ("::1", ["::1", "::1"], ["::", "::2"]),
            ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.0", "::10.1.2.3"]),
            ("2001:db8::/127", ["2001:db8::", "2001:db8::1"], ["2001:db8::2", "10.0.0.1"]),
        ] {
            assert!(inside.iter().all(|ip| contains(text, ip)), "{text} {inside:?}");
            assert!(!outside.iter().any(|ip| contains(text, ip)), "{text} {outside:?}");
        }
    }

    #[test]
    fn the_whole_of_a_family_is_that_family_only() {
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "ffff::") && !contains("::/0", "127.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_refused_and_what_is_one_is_shown_as_it_is_parsed() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/+8", "10/8"] {
            let error = text.parse::<IpNetwork>().unwrap_err();
            assert_eq!((error.fault(), error.input()), (AddressFault::BadNetwork, text));
        }
        for text in ["", "/8", "localhost", "10.0.0.0/8/8", "10.0.0.0 /8", "fe80::1%1"] {
            assert!(text.parse::<IpNetwork>().is_err(), "{text}");
        }
        for text in ["10.0.0.1/8", "0.0.0.1/0", "fd00::1/8", "192.0.2.129/31"] {
            assert_eq!(text.parse::<IpNetwork>().unwrap_err().fault(), AddressFault::HostBits);
        }
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "192.0.2.7/32", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
    }
}
