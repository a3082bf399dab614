//! A peer's address in the room that most of them need: an IPv4 address, or none.

use std::net::SocketAddrV4;

use crate::addr::Address;

/// An [`Address`] of 16 bytes; those that need more lie elsewhere.
#[derive(Debug)]
pub(crate) enum Peer {
    V4(SocketAddrV4),
    /// A Unix socket without a name, as nearly all clients have it.
    Unnamed,
    Other(Box<Address>),
}

impl Peer {
    pub(crate) fn address(&self) -> Address {
        match self {
            Peer::V4(address) => Address::Ip((*address).into()),
            Peer::Unnamed => Address::Unix(None),
            Peer::Other(address) => Address::clone(address),
        }
    }
}

impl From<Address> for Peer {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(std::net::SocketAddr::V4(address)) => Peer::V4(address),
            Address::Unix(None) => Peer::Unnamed,
            other => Peer::Other(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn it_gives_back_the_address_it_was_made_of() {
        let addresses = [
            Address::Ip("127.0.0.1:80".parse().unwrap()),
            Address::Ip("[fe80::1%3]:65535".parse().unwrap()),
            Address::Unix(None),
            Address::Unix(Some(Arc::from(Path::new("/run/socket")))),
        ];
        for address in addresses {
            assert_eq!(Peer::from(address.clone()).address(), address);
        }
        assert!(size_of::<Peer>() <= 16);
    }
}
