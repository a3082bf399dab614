//! Headers cut at every place, and with every bit turned.
#![cfg(test)]

use super::*;

/// Headers of every kind, right and wrong.
pub(super) fn samples() -> Vec<Vec<u8>> {
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
pub(super) fn assert_cuts_make_no_difference(input: &[u8]) {
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
