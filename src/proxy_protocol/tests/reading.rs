//! The specification's examples and limits, and headers as HAProxy 2.6 sends them.
#![cfg(test)]

use super::*;

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
