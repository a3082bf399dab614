//! Unit tests: settings that are refused, lengths as netty's prepender writes them, scan positions
//! and the ends of streams.

use super::*;
use crate::error::Error;

fn refused<T>(result: crate::error::Result<T>) -> (&'static str, String) {
    match result.err().expect("a setting that is refused") {
        Error::Option { name, reason } => (name, reason),
        other => panic!("expected an option to be refused, got {other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn settings_of_length_fields_that_cannot_be_meant_are_refused() {
    let builder = LengthFieldCodec::builder;
    for width in [0, 5, 6, 7, 9, usize::MAX] {
        let (name, reason) = refused(LengthFieldCodec::new(width));
        assert!(name == "width" && reason.contains(&width.to_string()), "{reason}");
    }
    assert_eq!(refused(builder().max_frame(0).build()).0, "max_frame");
    assert_eq!(refused(builder().max_frame(usize::MAX).build()).0, "max_frame");
    assert_eq!(refused(builder().max_frame(3).build()).0, "offset");
    assert_eq!(refused(builder().offset(usize::MAX).build()).0, "offset");
    assert_eq!(refused(builder().offset(7).max_frame(10).build()).0, "offset");
    assert_eq!(refused(builder().strip(11).max_frame(10).build()).0, "strip");
    assert_eq!(refused(builder().adjustment(i64::MAX).build()).0, "adjustment");
    let below = builder().adjustment(i64::MIN).length_includes_itself(true);
    assert_eq!(refused(below.build()).0, "adjustment");
    builder().offset(6).max_frame(10).strip(10).adjustment(i64::MIN).build().unwrap();
}

#[test]
fn settings_of_the_others_that_cannot_be_meant_are_refused() {
    assert_eq!(refused(LineCodec::new(usize::MAX)).0, "max_frame");
    let lf = LineCodec::builder().strict_crlf(true).ending(LineEnding::Lf);
    assert_eq!(refused(lf.build()).0, "ending");
    let netty = LineCodec::builder().strict_crlf(true).netty_compatible(true);
    assert_eq!(refused(netty.build()).0, "netty_compatible");
    LineCodec::new(0).unwrap();

    assert_eq!(refused(DelimiterCodec::new("", 10)).0, "delimiters");
    assert_eq!(refused(DelimiterCodec::new([0; 2000], 10)).0, "delimiters");
    assert_eq!(refused(DelimiterCodec::builder([""; 0]).build()).0, "delimiters");
    assert_eq!(refused(DelimiterCodec::builder(["a"; 65]).build()).0, "delimiters");
    assert_eq!(refused(DelimiterCodec::new("a", 0)).0, "max_frame");
    assert_eq!(refused(DelimiterCodec::new("a", usize::MAX)).0, "max_frame");

    assert_eq!(refused(FixedLengthCodec::new(0)).0, "frame_length");
    assert_eq!(refused(FixedLengthCodec::new(usize::MAX)).0, "frame_length");
    assert_eq!(refused(VarintLengthCodec::new(usize::MAX)).0, "max_frame");
}

/// The header for a body of so many bytes. netty adds its adjustment when it encodes, so ours has
/// the other sign.
fn header(width: usize, adjustment: i64, includes: bool, body: usize) -> Option<String> {
    let mut codec = LengthFieldCodec::builder()
        .width(width)
        .adjustment(-adjustment)
        .length_includes_itself(includes)
        .max_frame(1 << 25)
        .build()
        .unwrap();
    let bytes = codec.encode_to_bytes(&vec![7; body]).ok()?;
    assert!(bytes.len() == width + body);
    Some(hex(&bytes[..width]))
}

#[test]
fn lengths_are_written_as_netty_writes_them() {
    let is = |found: Option<String>, expected: &str| assert_eq!(found.as_deref(), Some(expected));
    is(header(1, 0, false, 5), "05");
    is(header(1, 0, false, 255), "ff");
    assert_eq!(header(1, 0, false, 256), None);
    assert_eq!(header(1, 0, true, 255), None);
    is(header(2, 0, false, 65_535), "ffff");
    assert_eq!(header(2, 0, false, 65_536), None);
    is(header(3, 0, false, (1 << 24) - 1), "ffffff");
    assert_eq!(header(3, 0, false, 1 << 24), None);
    is(header(2, 0, true, 0), "0002");
    is(header(4, -1, false, 1), "00000000");
    assert_eq!(header(4, -2, false, 1), None);
    is(header(4, -2, true, 1), "00000003");
    is(header(2, 3, false, 5), "0008");
    is(header(8, 0, true, 5), "000000000000000d");
    let little = LengthFieldCodec::builder().width(3).byte_order(ByteOrder::Little);
    let bytes = little.build().unwrap().encode_to_bytes(b"12345").unwrap();
    assert_eq!(hex(&bytes[..3]), "050000");
}

#[test]
fn a_header_in_front_of_the_length_is_the_items_beginning() {
    let mut codec =
        LengthFieldCodec::builder().offset(2).width(2).strip(0).max_frame(20).build().unwrap();
    let bytes = codec.encode_to_bytes(b"HDbody").unwrap();
    assert_eq!(&bytes[..], b"HD\0\x04body");
    assert!(matches!(codec.decode(&bytes).step, Step::Frame(b"HD\0\x04body")));
    assert!(matches!(codec.encode_to_bytes(b"H"), Err(EncodeError::TooShort { least: 2, .. })));
    assert!(matches!(codec.encode_to_bytes(&[0; 19]), Err(EncodeError::TooLong { .. })));
}

#[test]
fn items_that_would_be_read_differently_are_refused() {
    let at = |result: Result<Bytes, EncodeError>| match result {
        Err(EncodeError::ContainsDelimiter { at }) => Some(at),
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    };
    let mut lf = LineCodec::new(80).unwrap();
    assert_eq!(at(lf.encode_to_bytes(b"a\nb")), Some(1));
    assert_eq!(at(lf.encode_to_bytes(b"ab\r")), Some(2));
    assert_eq!(at(lf.encode_to_bytes(b"a\rb")), None);
    let mut crlf = LineCodec::builder().ending(LineEnding::CrLf).build().unwrap();
    assert_eq!(at(crlf.encode_to_bytes(b"ab\r")), None);
    let mut strict = LineCodec::builder().strict_crlf(true).build().unwrap();
    assert_eq!(at(strict.encode_to_bytes(b"a\nb")), None);
    assert_eq!(at(strict.encode_to_bytes(b"a\r\nb")), Some(1));
    assert_eq!(&strict.encode_to_bytes(b"a").unwrap()[..], b"a\r\n");

    let mut doubled = DelimiterCodec::new("aa", 80).unwrap();
    assert_eq!(at(doubled.encode_to_bytes(b"xa")), Some(1));
    let mut several = DelimiterCodec::builder(["|", "||", ";"]).build().unwrap();
    assert_eq!(at(several.encode_to_bytes(b"x;")), Some(1));
    assert_eq!(at(several.encode_to_bytes(b"x|")), Some(1));
    assert_eq!(&several.encode_to_bytes(b"x").unwrap()[..], b"x||");
}

#[test]
fn a_delimiter_that_may_be_longer_ends_its_frame_at_once() {
    let mut codec = DelimiterCodec::builder(["\r\n", "\r", "\n"]).build().unwrap();
    let decoded = codec.decode(b"one\r");
    assert!(matches!((decoded.consumed, decoded.step), (4, Step::Frame(b"one"))));
    let decoded = codec.decode(b"\ntwo");
    assert!(matches!((decoded.consumed, decoded.step), (1, Step::More)));
    let decoded = codec.decode(b"two\n");
    assert!(matches!((decoded.consumed, decoded.step), (4, Step::Frame(b"two"))));
}

#[test]
fn a_frame_behind_a_dropped_one_does_not_wait() {
    let mut codec = DelimiterCodec::builder([";", ";abc"]).max_frame(2).build().unwrap();
    assert!(matches!(codec.decode(b"xxx").step, Step::Error(DecodeError::TooLong { .. })));
    assert!(matches!(codec.decode(b";").step, Step::More));
    let decoded = codec.decode(b";;");
    assert!(matches!((decoded.consumed, decoded.step), (2, Step::Frame(b""))));
}

#[test]
fn what_was_searched_is_not_searched_again() {
    // A codec that looked again from the beginning would see the delimiter put there meanwhile.
    let mut codec = LineCodec::new(80).unwrap();
    assert!(matches!(codec.decode(b"abc").step, Step::More));
    let decoded = codec.decode(b"a\ncd\n");
    assert!(matches!((decoded.consumed, decoded.step), (5, Step::Frame(b"a\ncd"))));
    let mut codec = DelimiterCodec::new(";;", 80).unwrap();
    assert!(matches!(codec.decode(b"abc;").step, Step::More));
    assert!(matches!(codec.decode(b";;c;;").step, Step::Frame(b";;c")));
}

#[test]
fn varints_of_more_than_64_bits_are_corrupt() {
    let mut codec = VarintLengthCodec::new(100).unwrap();
    for (bytes, consumed) in
        [(&[0xff; 12][..], 10), (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10)]
    {
        let decoded = codec.decode(bytes);
        assert_eq!(decoded.consumed, consumed);
        assert!(matches!(decoded.step, Step::Error(DecodeError::Corrupt { .. })));
    }
    let longest = codec.decode(b"\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00x");
    assert!(matches!((longest.consumed, longest.step), (11, Step::Frame(b"x"))));
    let largest = codec.decode(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x");
    let length = u64::MAX;
    assert!(
        matches!(largest.step, Step::Error(DecodeError::TooLong { length: l, .. }) if l == length)
    );
    assert!(codec.is_within_frame());
}

#[test]
fn lengths_beyond_64_bits_are_too_long_unless_as_netty_has_it() {
    let input = b"\x7f\xff\xff\xff\xff\xff\xff\xffrest";
    let builder = || LengthFieldCodec::builder().width(8);
    let decoded = builder().build().unwrap().decode(input).step;
    let length = (1 << 63) + 7;
    assert!(matches!(decoded, Step::Error(DecodeError::TooLong { length: l, .. }) if l == length));
    let mut netty = builder().netty_compatible(true).build().unwrap();
    let decoded = netty.decode(input);
    assert!(matches!(
        (decoded.consumed, decoded.step),
        (8, Step::Error(DecodeError::Corrupt { .. }))
    ));
}

#[test]
fn a_frame_shorter_than_what_is_stripped_is_skipped_once() {
    let mut codec = LengthFieldCodec::builder().width(1).strip(3).build().unwrap();
    let decoded = codec.decode(b"\x01a\x03abc");
    assert!(matches!(decoded.step, Step::Error(DecodeError::Corrupt { .. })));
    assert!(matches!(codec.decode(&b"\x01a\x03abc"[decoded.consumed..]).step, Step::Frame(b"c")));
}

#[test]
fn errors_say_what_is_wrong() {
    let mut codec = LineCodec::new(3).unwrap();
    let Step::Error(error) = codec.decode(b"abcdef").step else { panic!("no error") };
    assert_eq!(error.to_string(), "a frame of 6 bytes or more, the limit is 3");
    assert!(codec.is_within_frame());
    let error = codec.encode_to_bytes(b"abcd").unwrap_err();
    assert_eq!(error.to_string(), "a frame of length 4, the limit is 3");
}
