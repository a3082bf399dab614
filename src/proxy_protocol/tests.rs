//! Headers of the specification and as HAProxy 2.6 sends them, for the tests beside this file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::addr::Address;

mod cuts;
mod reading;
mod writing;

const SIGNATURE: &str = "0d0a0d0a000d0a515549540a";

/// What HAProxy 2.6.12 sent: `send-proxy-v2` with the options `crc32c`, `unique-id`.
const HAPROXY_UNIQUE_ID: &str = "0d0a0d0a000d0a515549540a211100447f0000017f000001aeae520a0300043644\
    c95305002e37463030303030313a414541455f37463030303030313a353230415f36423033423434315f303030313a\
    34373841";
/// The same over IPv6, with `crc32c` alone.
const HAPROXY_IPV6: &str = "0d0a0d0a000d0a515549540a2121002b00000000000000000000000000000001000000\
    000000000000000000000000019aae520c0300047a1afd87";
/// The same for a client on a Unix socket, which HAProxy does not tell.
const HAPROXY_UNIX: &str = "0d0a0d0a000d0a515549540a20000007030004a9b87e8f";
/// Its health check.
const HAPROXY_CHECK: &str = "0d0a0d0a000d0a515549540a20000000";
/// `send-proxy-v2-ssl-cn` with every option, for a client with a certificate.
const HAPROXY_SSL: &str = "0d0a0d0a000d0a515549540a2111007e7f0000017f00000199e8520d030004be1bf3b4\
    010002683202000b6578616d706c652e636f6d2000550700000000210007544c5376312e3222000e636c69656e742e\
    6578616d706c652500075253413230343824000a5253412d53484132353623001b45434448452d5253412d41455332\
    35362d47434d2d534841333834";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// A header of version 2 with that byte for version and command, and that one for the family.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = bytes(SIGNATURE);
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&(block.len() as u16).to_be_bytes());
    header.extend_from_slice(block);
    header
}

fn read(input: &[u8]) -> Result<Parsed, ProxyError> {
    parse(input, DEFAULT_MAX_HEADER)
}

/// The header that the whole input is.
#[track_caller]
fn whole(input: &[u8]) -> ProxyHeader {
    match read(input) {
        Ok(Parsed::Header { header, length }) if length == input.len() => header,
        other => panic!("{other:?} from {:?}", String::from_utf8_lossy(input)),
    }
}

fn ip(text: &str) -> Address {
    text.parse::<SocketAddr>().unwrap().into()
}

fn unix(path: &str) -> Address {
    Address::Unix(Some(Arc::from(Path::new(path))))
}

#[track_caller]
fn assert_endpoints(header: &ProxyHeader, source: &str, destination: &str) {
    assert_eq!(header.source(), Some(&ip(source)));
    assert_eq!(header.destination(), Some(&ip(destination)));
}

#[track_caller]
fn assert_fault(input: &[u8], error: ProxyError) {
    assert_eq!(read(input), Err(error), "{:?}", String::from_utf8_lossy(input));
}
