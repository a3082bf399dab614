//! What is written, and round trips of anything that can be said.
#![cfg(test)]

use proptest::prelude::*;

use super::cuts::{assert_cuts_make_no_difference, samples};
use super::*;

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
