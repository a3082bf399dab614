//! The specification's examples and limits, headers as HAProxy 2.6 sends them, each cut at every
//! place, and round trips of anything that can be said.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::addr::Address;

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

#[test]
fn the_line_of_the_specification_is_read_and_what_follows_is_left() {
    let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    let request = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
    let Ok(Parsed::Header { header, length }) = read(&[&line[..], request].concat()) else {
        panic!("not read");
    };
    assert_eq!(length, line.len());
    assert_eq!(header.version(), Version::V1);
    assert!(!header.is_local() && !header.is_datagram());
    assert_endpoints(&header, "192.168.0.1:56324", "192.168.0.11:443");
    assert_eq!(header.tlvs().count(), 0);
}

#[test]
fn the_longest_lines_of_the_specification_are_read() {
    let v4 = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
    assert_eq!(v4.len(), 56);
    assert_endpoints(&whole(v4.as_bytes()), "255.255.255.255:65535", "255.255.255.255:65535");
    let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let v6 = format!("PROXY TCP6 {all} {all} 65535 65535\r\n");
    assert_eq!(v6.len(), 104);
    let address = format!("[{all}]:65535");
    assert_endpoints(&whole(v6.as_bytes()), &address, &address);
    let unknown = format!("PROXY UNKNOWN {all} {all} 65535 65535\r\n");
    assert_eq!(unknown.len(), 107);
    for line in
        ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN \r\n", "PROXY UNKNOWN a\0\u{ff} b\r\n", &unknown]
    {
        let header = whole(line.as_bytes());
        assert_eq!((header.source(), header.destination()), (None, None));
        assert!(!header.is_local());
    }
}

#[test]
fn lines_as_others_write_them_are_read() {
    // HAProxy, for an IPv4 client of a socket of both families.
    let line = b"PROXY TCP6 ::ffff:127.0.0.1 ::ffff:127.0.0.1 52774 21003\r\n";
    assert_endpoints(&whole(line), "127.0.0.1:52774", "127.0.0.1:21003");
    let line = b"PROXY TCP6 ::1 2001:DB8::ff00:42:8329 45142 0\r\n";
    assert_endpoints(&whole(line), "[::1]:45142", "[2001:db8::ff00:42:8329]:0");
    let line = b"PROXY TCP6 2001:0db8:0000:0000:0000:ff00:0042:8329 :: 1 2\r\n";
    assert_endpoints(&whole(line), "[2001:db8::ff00:42:8329]:1", "[::]:2");
}

#[test]
fn lines_that_are_not_exactly_right_are_refused() {
    use ProxyError::*;
    for (line, error) in [
        ("GET / HTTP/1.1\r\n", NotAHeader),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", NotAHeader),
        ("PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n", NotAHeader),
        ("PROXY\r\n", NotAHeader),
        (" PROXY UNKNOWN\r\n", NotAHeader),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", UnknownProtocol),
        ("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", UnknownProtocol),
        ("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", UnknownProtocol),
        ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", UnknownProtocol),
        ("PROXY TCP4\r\n", UnknownProtocol),
        ("PROXY UNKNOWNS\r\n", UnknownProtocol),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 1.2.3.0x4 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 0000000001.2.3.4 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 localhost 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", InvalidAddress),
        ("PROXY TCP6 ::1 1::2::3 1 2\r\n", InvalidAddress),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", InvalidAddress),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", InvalidAddress),
        ("PROXY TCP6 ::12345 ::1 1 2\r\n", InvalidAddress),
        ("PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n", InvalidAddress),
        ("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n", InvalidAddress),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 100000 2\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 00 2\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4  1 2\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", InvalidPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", InvalidLineEnd),
        ("PROXY TCP4 1.2.3.4\r\n", InvalidLineEnd),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", InvalidLineEnd),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", InvalidLineEnd),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX", InvalidLineEnd),
        ("PROXY UNKNOWN\n", UnknownProtocol),
        ("PROXY UNKNOWN\rX", InvalidLineEnd),
        ("PROXY UNKNOWN a\nb\r\n", InvalidLineEnd),
        ("PROXY UNKNOWN a\rb\r\n", InvalidLineEnd),
    ] {
        assert_fault(line.as_bytes(), error);
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    whole(line(107).as_bytes());
    assert_fault(line(108).as_bytes(), ProxyError::LineTooLong);
    assert_eq!(read(&line(300).as_bytes()[..105]), Ok(Parsed::Incomplete));
    assert_fault(&line(300).as_bytes()[..106], ProxyError::LineTooLong);
}

#[test]
fn what_haproxy_sends_is_read() {
    let header = whole(&bytes(HAPROXY_UNIQUE_ID));
    assert_endpoints(&header, "127.0.0.1:44718", "127.0.0.1:21002");
    let id = b"7F000001:AEAE_7F000001:520A_6B03B441_0001:478A";
    assert_eq!(header.unique_id(), Some(&id[..]));
    assert_eq!(header.crc32c(), Some(0x3644_c953));
    assert_eq!(header.version(), Version::V2);

    let header = whole(&bytes(HAPROXY_IPV6));
    assert_endpoints(&header, "[::1]:39598", "[::1]:21004");

    for (hex, vectors) in [(HAPROXY_UNIX, 1), (HAPROXY_CHECK, 0)] {
        let header = whole(&bytes(hex));
        assert!(header.is_local());
        assert_eq!((header.source(), header.tlvs().count()), (None, vectors));
    }
}

#[test]
fn what_haproxy_tells_of_tls_is_read() {
    let header = whole(&bytes(HAPROXY_SSL));
    assert_endpoints(&header, "127.0.0.1:39400", "127.0.0.1:21005");
    assert_eq!(header.alpn(), Some(&b"h2"[..]));
    assert_eq!(header.authority(), Some("example.com"));
    let ssl = header.ssl().unwrap();
    assert_eq!((ssl.flags(), ssl.verify()), (7, 0));
    assert!(ssl.is_tls() && ssl.is_client_verified());
    assert_eq!(ssl.version(), Some("TLSv1.2"));
    assert_eq!(ssl.common_name(), Some("client.example"));
    assert_eq!(ssl.key_algorithm(), Some("RSA2048"));
    assert_eq!(ssl.signature_algorithm(), Some("RSA-SHA256"));
    assert_eq!(ssl.cipher(), Some("ECDHE-RSA-AES256-GCM-SHA384"));
    let kinds: Vec<_> = header.tlvs().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [Tlv::CRC32C, Tlv::ALPN, Tlv::AUTHORITY, Tlv::SSL]);
    assert_eq!(ssl.tlvs().count(), 5);
}

#[test]
fn every_family_and_transport_is_read() {
    let v4 = bytes("c0000201 c000020b dc04 01bb");
    let v6 = bytes("20010db8000000000000000000000001 20010db8000000000000000000000002 0001 ffff");
    for (family, is_datagram) in [(0x11, false), (0x12, true)] {
        let header = whole(&v2(0x21, family, &v4));
        assert_endpoints(&header, "192.0.2.1:56324", "192.0.2.11:443");
        assert_eq!(header.is_datagram(), is_datagram);
    }
    for (family, is_datagram) in [(0x21, false), (0x22, true)] {
        let header = whole(&v2(0x21, family, &v6));
        assert_endpoints(&header, "[2001:db8::1]:1", "[2001:db8::2]:65535");
        assert_eq!(header.is_datagram(), is_datagram);
    }
    let mut field = [0; 216];
    field[..5].copy_from_slice(b"/a/b\0");
    field[5..108].fill(b'?'); // behind the NUL: not looked at
    field[108..].fill(b'y'); // without a NUL
    for (family, is_datagram) in [(0x31, false), (0x32, true)] {
        let header = whole(&v2(0x21, family, &field));
        assert_eq!(header.source(), Some(&unix("/a/b")));
        assert_eq!(header.destination(), Some(&unix(&"y".repeat(108))));
        assert_eq!(header.is_datagram(), is_datagram);
    }
    field[0] = 0;
    assert_eq!(whole(&v2(0x21, 0x31, &field)).source(), Some(&Address::Unix(None)));
}

#[test]
fn an_ipv4_address_in_ipv6_dress_is_ipv4() {
    let block =
        bytes("00000000000000000000ffffc0000201 20010db8000000000000000000000002 0001 0002");
    assert_endpoints(&whole(&v2(0x21, 0x21, &block)), "192.0.2.1:1", "[2001:db8::2]:2");
}

#[test]
fn local_and_unspecified_say_no_addresses() {
    let block = bytes("c0000201 c000020b dc04 01bb 040002 0000");
    for (command, family, vectors) in [
        (0x20, 0x00, 0),
        (0x20, 0x11, 1), // the family of LOCAL is ignored
        (0x20, 0x21, 0),
        (0x20, 0xff, 0),
        (0x21, 0x00, 0), // UNSPEC: nobody knows what the bytes are
        (0x21, 0x10, 1),
        (0x21, 0x01, 0),
        (0x21, 0x30, 0),
    ] {
        let header = whole(&v2(command, family, &block));
        assert_eq!((header.source(), header.destination()), (None, None));
        assert_eq!(header.is_local(), command == 0x20);
        assert_eq!(header.tlvs().count(), vectors, "{command:x} {family:x}");
        assert!(!header.is_datagram());
        whole(&v2(command, family, &[]));
        // A wrong checksum, where it can be seen to be one, spoils even what is ignored.
        assert_eq!(whole(&v2(command, family, &bytes("030005 0000000000"))).crc32c(), None);
    }
    assert_fault(&v2(0x20, 0, &bytes("030004 00000000")), ProxyError::ChecksumMismatch);
}

#[test]
fn headers_of_version_2_that_are_not_exactly_right_are_refused() {
    use ProxyError::*;
    let v4 = bytes("7f000001 7f000001 002a 0539");
    let with = |tail: &str| [&v4[..], &bytes(tail)].concat();
    for (input, error) in [
        (bytes("0d0a0d0a000d0a515549540d"), NotAHeader),
        (bytes("0d0a0d0a0a"), NotAHeader),
        (bytes("160301"), NotAHeader),
        (v2(0x11, 0x11, &v4), UnknownVersion(1)),
        (v2(0x31, 0x11, &v4), UnknownVersion(3)),
        (v2(0x22, 0x11, &v4), UnknownCommand(2)),
        (v2(0x2f, 0x11, &v4), UnknownCommand(15)),
        (v2(0x21, 0x41, &v4), UnknownFamily(0x41)),
        (v2(0x21, 0x13, &v4), UnknownFamily(0x13)),
        (v2(0x21, 0xff, &v4), UnknownFamily(0xff)),
        (v2(0x21, 0x11, &v4[..11]), TooShort { length: 11 }),
        (v2(0x21, 0x12, &[]), TooShort { length: 0 }),
        (v2(0x21, 0x21, &[0; 35]), TooShort { length: 35 }),
        (v2(0x21, 0x31, &[0; 215]), TooShort { length: 215 }),
        // HAProxy's proxy_protocol_tlv_validation.vtc: a vector beyond the end, and one short of it.
        (v2(0x21, 0x11, &with("02000a 3132333435313233")), MisplacedTlv),
        (v2(0x21, 0x11, &with("020004 31323334 47")), MisplacedTlv),
        (v2(0x21, 0x11, &with("0200")), MisplacedTlv),
        (v2(0x21, 0x11, &with("030003 000000")), InvalidTlv(3)),
        (v2(0x21, 0x11, &with("030005 0000000000")), InvalidTlv(3)),
        (v2(0x21, 0x11, &with("030004 00000000 030004 00000000")), InvalidTlv(3)),
        (v2(0x21, 0x11, &with("030004 00000000")), ChecksumMismatch),
        (v2(0x21, 0x11, &with(&format!("050081 {}", "61".repeat(129)))), InvalidTlv(5)),
        (v2(0x21, 0x11, &with("200004 01000000")), InvalidTlv(0x20)),
        (v2(0x21, 0x11, &with("200007 0100000000 2100")), InvalidTlv(0x20)),
        (v2(0x21, 0x11, &with("200009 0100000000 210002 41")), InvalidTlv(0x20)),
        (v2(0x21, 0x11, &with("20000a 0100000000 210002 4100 00")), MisplacedTlv),
    ] {
        assert_fault(&input, error);
    }
}

#[test]
fn vectors_are_read_as_haproxys_own_tests_demand() {
    // proxy_protocol_tlv_validation.vtc: what follows the header is no part of it.
    let block = bytes("7f000001 7f000001 002a 0539 020005 3132333435");
    let input = [v2(0x21, 0x11, &block), bytes("020005 3534333231")].concat();
    let Ok(Parsed::Header { header, length }) = read(&input) else { panic!("not read") };
    assert_eq!((header.authority(), length), (Some("12345"), input.len() - 8));
    // proxy_protocol_tlv_embedded_nul.vtc: no accessor stops at a NUL.
    let block = bytes(
        "7f000001 7f000001 002a 0539 020008 7075626c69630078 050008 7075626c69630078
         e10008 7075626c69630078 200005 0000000000",
    );
    let header = whole(&v2(0x21, 0x11, &block));
    assert_eq!(header.authority(), Some("public\0x"));
    assert_eq!(header.unique_id(), Some(&b"public\0x"[..]));
    assert_eq!(header.tlv(0xe1), Some(&b"public\0x"[..]));
    let ssl = header.ssl().unwrap();
    assert_eq!((ssl.flags(), ssl.verify(), ssl.version()), (0, 0, None));
    assert!(!ssl.is_tls() && !ssl.is_client_verified());
}

#[test]
fn a_client_is_verified_only_with_tls_and_a_certificate() {
    let is_verified = |flags, verify| {
        let header = ProxyHeader::v2_local().with_ssl(flags, verify, &[]).unwrap();
        header.ssl().unwrap().is_client_verified()
    };
    assert!(is_verified(0x03, 0) && is_verified(0x05, 0) && is_verified(0x07, 0));
    assert!(!is_verified(0x01, 0) && !is_verified(0x06, 0) && !is_verified(0, 0));
    assert!(!is_verified(0x07, 1));
}

#[test]
fn text_that_is_not_utf8_is_there_as_bytes_only() {
    let header = ProxyHeader::v2_local().with_tlv(Tlv::AUTHORITY, [0xff]).unwrap();
    assert_eq!((header.authority(), header.tlv(Tlv::AUTHORITY)), (None, Some(&[0xff][..])));
    let header = header.with_tlv(Tlv::NETNS, "blue").unwrap();
    assert_eq!((header.netns(), header.alpn()), (Some("blue"), None));
}

#[test]
fn the_limit_holds_as_soon_as_the_length_is_there() {
    let input = v2(0x21, 0, &[0; 4096 - 16]);
    whole(&input);
    let error = ProxyError::TooLong { length: 4096, limit: 4095 };
    assert_eq!(parse(&input[..16], 4095), Err(error));
    assert_eq!(parse(&input[..15], 4095), Ok(Parsed::Incomplete));
    let longest = v2(0x21, 0, &[0; 65_535]);
    assert_eq!(longest.len(), MAX_HEADER);
    assert!(matches!(parse(&longest, MAX_HEADER), Ok(Parsed::Header { length: MAX_HEADER, .. })));
    assert!(parse(&longest, usize::MAX).is_ok());
}

/// Headers of every kind, right and wrong.
fn samples() -> Vec<Vec<u8>> {
    let mut samples = [HAPROXY_UNIQUE_ID, HAPROXY_IPV6, HAPROXY_UNIX, HAPROXY_CHECK, HAPROXY_SSL]
        .map(bytes)
        .to_vec();
    for line in [
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        "PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 1 65535\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        "PROXY TCP4 1.2.3.400 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY UNKNOWN a\nb\r\n",
        "PROXY UNKNOWN and so on and so on and so on and so on and so on and so on and so on and \
         so on and so on and so on\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        samples.push(line.into());
    }
    samples.push(v2(0x21, 0x31, &[b'x'; 216]));
    samples.push(v2(0x21, 0x11, &[1; 20]));
    samples.push(v2(0x20, 0x77, &[1; 20]));
    samples.push(v2(0x21, 0x77, &[1; 20]));
    samples
}

/// However the bytes arrive, the answer is the same: *incomplete* up to some byte, and from there
/// on what the whole gives.
fn assert_cuts_make_no_difference(input: &[u8]) {
    let at_once = read(input);
    let first = (0..=input.len()).find(|end| read(&input[..*end]) != Ok(Parsed::Incomplete));
    let Some(first) = first else { return assert_eq!(at_once, Ok(Parsed::Incomplete)) };
    for end in first..=input.len() {
        assert_eq!(read(&input[..end]), at_once, "{end} of {input:02x?}");
    }
    if let Ok(Parsed::Header { length, .. }) = at_once {
        assert_eq!(length, first, "the header is there with its last byte");
    }
}

#[test]
fn every_cut_of_every_sample_makes_no_difference() {
    for sample in samples() {
        assert_cuts_make_no_difference(&sample);
        assert_cuts_make_no_difference(&[&sample[..], b"\r\nPROXY \r\n"].concat());
    }
}

#[test]
fn what_cannot_become_a_header_is_refused_at_its_first_wrong_byte() {
    for (input, length) in [
        ("G", 1),
        ("PROXy", 5),
        ("PROXY U", 0),
        ("PROXY X", 7),
        ("PROXY TCP4 x", 12),
        ("PROXY TCP4 1.2.3.4444444444", 27),
        ("\r\n\r\nG", 5),
    ] {
        for end in 0..=input.len() {
            let is_refused = read(&input.as_bytes()[..end]).is_err();
            assert_eq!(is_refused, length > 0 && end >= length, "{input:?} {end}");
        }
    }
}

#[test]
fn every_bit_flip_of_every_sample_is_survived_and_a_checksum_finds_it() {
    for sample in samples() {
        let has_checksum = matches!(read(&sample), Ok(Parsed::Header { header, .. })
            if header.crc32c().is_some());
        for bit in 0..sample.len() * 8 {
            let mut flipped = sample.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let result = read(&flipped);
            if has_checksum && let Ok(Parsed::Header { header, .. }) = result {
                // A flip that hides the checksum cannot be found by it.
                assert_eq!(header.crc32c(), None, "bit {bit} of {sample:02x?}");
            }
        }
    }
}

#[test]
fn what_is_encoded_is_what_the_specification_and_haproxy_write() {
    let (a, b) = (ip("192.168.0.1:56324"), ip("192.168.0.11:443"));
    let line = |header: ProxyHeader| String::from_utf8(header.encode().unwrap()).unwrap();
    assert_eq!(
        line(ProxyHeader::v1(a.clone(), b.clone())),
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    );
    assert_eq!(
        line(ProxyHeader::v1(a.clone(), ip("[2001:DB8::1]:1"))),
        "PROXY TCP6 ::ffff:c0a8:1 2001:db8::1 56324 1\r\n"
    );
    let unknown = "PROXY UNKNOWN\r\n";
    assert_eq!(line(ProxyHeader::v1_unknown()), unknown);
    assert_eq!(line(ProxyHeader::v1(unix("/a"), Address::Unix(None))), unknown);
    assert_eq!(line(ProxyHeader::v1(a.clone(), unix("/a"))), unknown);
    assert_eq!(line(ProxyHeader::v1(a, b).with_datagram()), unknown);
    assert_eq!(ProxyHeader::v2_local().encode().unwrap(), bytes(HAPROXY_CHECK));
    let local = ProxyHeader::v2_local().with_crc32c().unwrap().with_crc32c().unwrap();
    assert_eq!(local.encode().unwrap(), bytes(HAPROXY_UNIX));
    for hex in [HAPROXY_UNIQUE_ID, HAPROXY_IPV6, HAPROXY_SSL] {
        assert_eq!(whole(&bytes(hex)).encode().unwrap(), bytes(hex));
    }
    let dressed = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    assert_eq!(
        line(ProxyHeader::v1(Address::Ip((dressed, 1).into()), ip("127.0.0.1:2"))),
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"
    );
    let header = ProxyHeader::v2(ip("[::1]:1"), ip("10.0.0.1:2")).encode().unwrap();
    assert_endpoints(&whole(&header), "[::1]:1", "10.0.0.1:2");
}

#[test]
fn what_cannot_be_said_is_an_error() {
    use ProxyEncodeError::*;
    let (a, b) = (ip("127.0.0.1:1"), ip("[::1]:2"));
    let v1 = || ProxyHeader::v1(a.clone(), b.clone());
    assert_eq!(v1().with_alpn("h2"), Err(NotInVersion1));
    assert_eq!(v1().with_crc32c(), Err(NotInVersion1));
    let v2 = || ProxyHeader::v2(a.clone(), b.clone());
    assert_eq!(v2().with_unique_id([0; 129]), Err(InvalidTlv(Tlv::UNIQUE_ID)));
    assert_eq!(v2().with_tlv(Tlv::CRC32C, [0; 4]), Err(InvalidTlv(Tlv::CRC32C)));
    assert_eq!(v2().with_tlv(Tlv::SSL, [0; 4]), Err(InvalidTlv(Tlv::SSL)));
    assert_eq!(v2().with_tlv(Tlv::NOOP, vec![0; 65_536]), Err(InvalidTlv(Tlv::NOOP)));
    let long = Tlv { kind: Tlv::SSL_CN, value: &[0; 65_536] };
    assert_eq!(v2().with_ssl(0, 0, &[long]), Err(InvalidTlv(Tlv::SSL_CN)));
    let long = Tlv { kind: Tlv::SSL_CN, value: &[0; 65_530] };
    assert_eq!(v2().with_ssl(0, 0, &[long]), Err(InvalidTlv(Tlv::SSL)));
    // 36 of addresses and 3 in front of the value.
    let most = v2().with_tlv(Tlv::NOOP, vec![0; 65_535 - 39]).unwrap();
    assert_eq!(most.encode().unwrap().len(), MAX_HEADER);
    let more = v2().with_tlv(Tlv::NOOP, vec![0; 65_535 - 38]).unwrap();
    assert_eq!(more.encode(), Err(TooLong(MAX_HEADER + 1)));
    assert_eq!(ProxyHeader::v2(a.clone(), unix("/a")).encode(), Err(MixedFamilies));
    assert_eq!(ProxyHeader::v2(unix(&"a".repeat(109)), unix("/a")).encode(), Err(InvalidPath));
    assert_eq!(ProxyHeader::v2(unix("/a"), unix("/\0")).encode(), Err(InvalidPath));
    assert!(ProxyHeader::v2(unix(&"a".repeat(108)), unix("/a")).encode().is_ok());
}

fn any_ip() -> impl Strategy<Value = Address> {
    any::<SocketAddr>().prop_map(|address| SocketAddr::new(address.ip(), address.port()).into())
}

fn any_unix() -> impl Strategy<Value = Address> {
    let path = proptest::option::of("[^\0]{1,27}"); // at most 4 bytes a character
    path.prop_map(|path| Address::Unix(path.map(|path| Arc::from(Path::new(&path)))))
}

fn any_endpoints() -> impl Strategy<Value = (Address, Address)> {
    prop_oneof![(any_ip(), any_ip()), (any_unix(), any_unix())]
}

prop_compose! {
    fn any_v2()(
        endpoints in proptest::option::of(any_endpoints()),
        is_local in any::<bool>(),
        is_datagram in any::<bool>(),
        has_checksum in any::<bool>(),
        tlvs in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
        ssl in proptest::option::of((any::<u8>(), any::<u32>(), ".{0,20}")),
    ) -> ProxyHeader {
        let mut header = match endpoints {
            Some((source, destination)) => ProxyHeader::v2(source, destination),
            None if is_local => ProxyHeader::v2_local(),
            None => ProxyHeader::v2_unspecified(),
        };
        if is_datagram {
            header = header.with_datagram();
        }
        for (at, (kind, value)) in tlvs.iter().enumerate() {
            if has_checksum && at == 1 {
                header = header.with_crc32c().unwrap();
            }
            header = header.clone().with_tlv(*kind, value).unwrap_or(header);
        }
        if let Some((flags, verify, name)) = ssl {
            let tlv = Tlv { kind: Tlv::SSL_CN, value: name.as_bytes() };
            header = header.with_ssl(flags, verify, &[tlv]).unwrap();
        }
        if has_checksum { header.with_crc32c().unwrap() } else { header }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_in_version_1_is_read_again(source in any_ip(), destination in any_ip()) {
        let header = ProxyHeader::v1(source, destination);
        let encoded = header.encode().unwrap();
        prop_assert_eq!(whole(&encoded), header);
        assert_cuts_make_no_difference(&encoded);
    }

    #[test]
    fn what_is_encoded_in_version_2_is_read_again(header in any_v2()) {
        let encoded = header.encode().unwrap();
        let parsed = whole(&encoded);
        prop_assert_eq!(parsed.encode().unwrap(), &encoded[..]);
        prop_assert_eq!(parsed.source(), header.source());
        prop_assert_eq!(parsed.destination(), header.destination());
        prop_assert_eq!(parsed.is_local(), header.is_local());
        prop_assert_eq!(parsed.is_datagram(), header.is_datagram());
        let vectors = |header: &ProxyHeader| {
            let vectors = header.tlvs().filter(|tlv| tlv.kind != Tlv::CRC32C);
            vectors.map(|tlv| (tlv.kind, tlv.value.to_vec())).collect::<Vec<_>>()
        };
        prop_assert_eq!(vectors(&parsed), vectors(&header));
        prop_assert_eq!(parsed.crc32c().is_some(), header.crc32c().is_some());
        assert_cuts_make_no_difference(&encoded);
    }

    #[test]
    fn changes_and_cuts_are_survived(
        sample in proptest::sample::select(samples()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut input = sample;
        for (at, byte) in changes {
            let at = at.index(input.len());
            input[at] = byte;
        }
        assert_cuts_make_no_difference(&input);
    }

    #[test]
    fn anything_behind_a_beginning_is_survived(
        beginning in proptest::sample::select(vec![
            b"PROXY ".to_vec(), b"PROXY TCP4 ".to_vec(), b"PROXY TCP6 ".to_vec(),
            b"PROXY UNKNOWN ".to_vec(), bytes(SIGNATURE), v2(0x21, 0x11, &[]), v2(0x20, 0, &[]),
        ]),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        assert_cuts_make_no_difference(&[beginning, rest].concat());
    }
}
