//! Properties of the codecs: the way in which input is cut changes nothing, a naive decoder finds
//! the same frames, what is encoded is decoded, and no input makes a codec stand still.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use tightloop::DecodeError;
use tightloop::codec::{
    AnyCodec, ByteOrder, Codec, DelimiterCodec, FixedLengthCodec, LengthFieldCodec, LineCodec,
    LineEnding, Step, VarintLengthCodec,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Frame(Vec<u8>),
    TooLong,
    Negative,
    Corrupt,
}

fn event(step: Step<&[u8]>) -> Event {
    match step {
        Step::Frame(frame) => Event::Frame(frame.to_vec()),
        Step::Error(DecodeError::TooLong { .. }) => Event::TooLong,
        Step::Error(DecodeError::NegativeLength { .. }) => Event::Negative,
        Step::Error(DecodeError::Corrupt { .. }) => Event::Corrupt,
        other => panic!("{other:?} is no event"),
    }
}

/// Decodes chunk by chunk, checking that each step moves on within the bounds.
fn decode<'a>(mut codec: AnyCodec, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut events, mut unconsumed) = (Vec::new(), Vec::new());
    for chunk in chunks {
        unconsumed.extend_from_slice(chunk);
        while !unconsumed.is_empty() {
            let decoded = codec.decode(&unconsumed);
            let consumed = decoded.consumed;
            assert!(consumed <= unconsumed.len(), "more consumed than there was");
            let is_done = matches!(decoded.step, Step::More);
            if !is_done {
                assert!(consumed > 0, "a step that consumes nothing");
                events.push(event(decoded.step));
            }
            unconsumed.drain(..consumed);
            if is_done {
                break;
            }
        }
    }
    events
}

/// Input cut at the given places.
fn cut<'a>(input: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(input.len() + 1)).collect();
    places.extend([0, input.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
}

/// Few different bytes, so that terminators and small lengths are frequent.
fn input(length: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(&b"\r\n|ab"[..]),
        3 => 0_u8..6,
        1 => prop::sample::select(&[0x7f, 0x80, 0xff][..]),
    ];
    vec(byte, 0..length)
}

fn delimiters() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(prop::sample::select(&b"\r\n|a"[..]), 1..5), 1..5)
}

prop_compose! {
    fn length_field()(
        width in prop::sample::select(&[1_usize, 2, 3, 4, 8][..]),
        offset in 0_usize..4,
        adjustment in -12_i64..12,
        strip in 0_usize..16,
        little in any::<bool>(),
        includes_itself in any::<bool>(),
        fail_fast in any::<bool>(),
        room in 0_usize..40,
    ) -> LengthFieldCodec {
        let max_frame = offset + width + room;
        let order = if little { ByteOrder::Little } else { ByteOrder::Big };
        LengthFieldCodec::builder().width(width).offset(offset).adjustment(adjustment)
            .strip(strip.min(max_frame)).byte_order(order).max_frame(max_frame)
            .length_includes_itself(includes_itself).fail_fast(fail_fast).build().unwrap()
    }
}

prop_compose! {
    fn line()(max in 0_usize..12, keep in any::<bool>(), fail_fast in any::<bool>(),
              strict in any::<bool>(), crlf in any::<bool>()) -> LineCodec {
        let ending = if crlf || strict { LineEnding::CrLf } else { LineEnding::Lf };
        LineCodec::builder().max_frame(max).keep_ending(keep).fail_fast(fail_fast)
            .strict_crlf(strict).ending(ending).build().unwrap()
    }
}

prop_compose! {
    fn delimiter()(list in delimiters(), max in 1_usize..12, keep in any::<bool>(),
                   fail_fast in any::<bool>()) -> DelimiterCodec {
        DelimiterCodec::builder(list).max_frame(max).keep_delimiter(keep).fail_fast(fail_fast)
            .build().unwrap()
    }
}

fn varint() -> impl Strategy<Value = VarintLengthCodec> {
    (0_usize..40, any::<bool>()).prop_map(|(max, fail_fast)| {
        VarintLengthCodec::builder().max_frame(max).fail_fast(fail_fast).build().unwrap()
    })
}

fn any_codec() -> impl Strategy<Value = AnyCodec> {
    prop_oneof![
        length_field().prop_map(AnyCodec::from),
        line().prop_map(AnyCodec::from),
        delimiter().prop_map(AnyCodec::from),
        varint().prop_map(AnyCodec::from),
        (1_usize..9).prop_map(|n| FixedLengthCodec::new(n).unwrap().into()),
    ]
}

/// The bytes before the first delimiter, and the bytes up to its end: the longest of those that
/// begin first.
fn naive_split(input: &[u8], delimiters: &[Vec<u8>]) -> Option<(usize, usize)> {
    (0..input.len()).find_map(|at| {
        let here = delimiters.iter().filter(|delimiter| input[at..].starts_with(delimiter));
        here.map(Vec::len).max().map(|length| (at, at + length))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_way_in_which_input_is_cut_changes_nothing(
        codec in any_codec(),
        input in input(120),
        places in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes = decode(codec.clone(), input.chunks(1));
        let chunks = decode(codec.clone(), cut(&input, &places).into_iter());
        prop_assert_eq!(&bytes, &chunks);
        // All at once may leave the last frame open where single bytes do: they are the same.
        prop_assert_eq!(decode(codec, std::iter::once(&input[..])), bytes);
    }

    #[test]
    fn arbitrary_bytes_are_decoded_in_bounded_steps(
        codec in any_codec(),
        input in vec(any::<u8>(), 0..400),
    ) {
        prop_assert!(decode(codec, input.chunks(7)).len() <= input.len());
    }

    #[test]
    fn delimited_frames_are_those_of_a_naive_decoder(
        list in delimiters(), max in 1_usize..12, input in input(120),
    ) {
        let mut naive = Vec::new();
        let mut rest = &input[..];
        while let Some((content, end)) = naive_split(rest, &list) {
            naive.push(match content > max {
                true => Event::TooLong,
                false => Event::Frame(rest[..content].to_vec()),
            });
            rest = &rest[end..];
        }
        let codec = DelimiterCodec::builder(&list).max_frame(max).fail_fast(false);
        let found = decode(codec.build().unwrap().into(), input.chunks(3));
        // A frame may wait for what follows it, and only the last ones.
        prop_assert!(naive.starts_with(&found), "{:?} is no beginning of {:?}", found, naive);
        let longest = list.iter().map(Vec::len).max().unwrap_or(0);
        let mut closed = input.clone();
        closed.extend(std::iter::repeat_n(b'x', longest));
        let codec = DelimiterCodec::builder(&list).max_frame(max).fail_fast(false);
        prop_assert_eq!(decode(codec.build().unwrap().into(), closed.chunks(3)), naive);
    }

    #[test]
    fn lines_are_those_of_a_naive_decoder(
        max in 0_usize..12, strict in any::<bool>(), input in input(120),
    ) {
        let ends = if strict { vec![b"\r\n".to_vec()] } else { vec![b"\r\n".to_vec(), b"\n".to_vec()] };
        let (mut naive, mut rest) = (Vec::new(), &input[..]);
        while let Some((content, end)) = naive_split(rest, &ends) {
            naive.push(match content > max {
                true => Event::TooLong,
                false => Event::Frame(rest[..content].to_vec()),
            });
            rest = &rest[end..];
        }
        let codec = LineCodec::builder().max_frame(max).strict_crlf(strict).fail_fast(false);
        prop_assert_eq!(decode(codec.build().unwrap().into(), input.chunks(3)), naive);
    }

    #[test]
    fn length_fields_are_those_of_a_naive_decoder(
        width in prop::sample::select(&[1_usize, 2, 3, 4, 8][..]),
        offset in 0_usize..4, adjustment in -12_i64..12, strip in 0_usize..8, room in 8_usize..40,
        input in input(120),
    ) {
        let (end, max) = (offset + width, offset + width + room);
        let (mut naive, mut rest) = (Vec::new(), &input[..]);
        while rest.len() >= end {
            let value = rest[offset..end].iter().fold(0_i128, |value, byte| value << 8 | i128::from(*byte));
            let length = value + i128::from(adjustment) + end as i128;
            let (event, skipped) = if value > i128::from(i64::MAX) {
                (Event::Negative, end)
            } else if length < end as i128 {
                (Event::Corrupt, end)
            } else if length > rest.len() as i128 {
                // Over the limit or not: with the errors told late, nothing comes of it.
                break;
            } else if length > max as i128 {
                (Event::TooLong, length as usize)
            } else if strip as i128 > length {
                (Event::Corrupt, length as usize)
            } else {
                (Event::Frame(rest[strip..length as usize].to_vec()), length as usize)
            };
            naive.push(event);
            rest = &rest[skipped..];
        }
        let codec = LengthFieldCodec::builder().width(width).offset(offset).adjustment(adjustment)
            .strip(strip).max_frame(max).fail_fast(false).build().unwrap();
        prop_assert_eq!(decode(codec.into(), input.chunks(3)), naive);
    }

    #[test]
    fn what_is_encoded_is_decoded_and_what_cannot_be_is_refused_unwritten(
        codec in any_codec(),
        items in vec(input(16), 1..6),
    ) {
        let mut out = BytesMut::new();
        let mut sent = Vec::new();
        let mut encoder = codec.clone();
        for item in &items {
            let before = out.len();
            match encoder.encode(item, &mut out) {
                Ok(()) => sent.push((item, out[before..].to_vec())),
                Err(_) => prop_assert_eq!(out.len(), before, "an error that has written"),
            }
        }
        // One byte more: a frame that ends in what may be a longer delimiter waits for it.
        out.extend_from_slice(b"\x05");
        let found = decode(codec.clone(), out.chunks(5));
        prop_assert!(found.len() >= sent.len(), "{:?} of {:?}", found, sent);
        for (event, (item, encoded)) in found.iter().zip(&sent) {
            let Event::Frame(frame) = event else { panic!("{event:?} for {item:?}") };
            let is_right = match &codec {
                AnyCodec::LengthField(_) => encoded.ends_with(frame),
                AnyCodec::Line(_) | AnyCodec::Delimiter(_) => frame == *item || frame == encoded,
                _ => frame == *item,
            };
            prop_assert!(is_right, "{:?} came back as {:?}", item, frame);
        }
    }

    #[test]
    fn every_body_comes_back_from_every_plain_length_field(
        width in prop::sample::select(&[1_usize, 2, 3, 4, 8][..]),
        little in any::<bool>(), includes_itself in any::<bool>(),
        body in vec(any::<u8>(), 0..400),
    ) {
        let order = if little { ByteOrder::Little } else { ByteOrder::Big };
        let codec = LengthFieldCodec::builder().width(width).byte_order(order)
            .length_includes_itself(includes_itself).build().unwrap();
        let counted = body.len() + if includes_itself { width } else { 0 };
        match codec.clone().encode_to_bytes(&body) {
            Ok(bytes) => {
                prop_assert_eq!(decode(codec.into(), bytes.chunks(9)), [Event::Frame(body)]);
            }
            Err(error) => prop_assert!(width == 1 && counted > 255, "{}", error),
        }
    }
}
