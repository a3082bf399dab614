//! What the targets share: settings out of the input's first bytes, and the check that no cut of
//! the rest makes a difference.
#![allow(dead_code, reason = "each target uses its own part")]

use tightloop::DecodeError;
use tightloop::codec::{
    AnyCodec, ByteOrder, Codec, DelimiterCodec, FixedLengthCodec, LengthFieldCodec, LineCodec,
    Step, VarintLengthCodec,
};

/// What came of a step, with the place of its frame in the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Frame(&'a [u8]),
    TooLong,
    Negative,
    Corrupt,
}

/// The input's bytes, taken off one by one for settings; zero when there are none left.
pub struct Settings<'a>(pub &'a [u8]);

impl Settings<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    pub fn length(&mut self) -> usize {
        self.byte().into()
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn netty(&mut self) -> bool {
        self.byte() % 8 == 7
    }
}

/// A codec of any settings, `None` where they are refused, and whether cuts make no difference.
pub fn length_field(settings: &mut Settings<'_>) -> Option<(AnyCodec, bool)> {
    let order = if settings.flag() { ByteOrder::Little } else { ByteOrder::Big };
    let adjustment = match settings.byte() {
        0 => i64::MAX - 20,
        1 => i64::MIN + 20,
        2 => i64::from(i32::MAX),
        byte => i64::from(byte as i8),
    };
    let codec = LengthFieldCodec::builder()
        .byte_order(order)
        .adjustment(adjustment)
        .width(settings.length() % 10)
        .offset(settings.length() % 16)
        .strip(settings.length() % 32)
        .max_frame(settings.length() * 4)
        .length_includes_itself(settings.flag())
        .fail_fast(settings.flag())
        .netty_compatible(settings.netty());
    Some((codec.build().ok()?.into(), true))
}

pub fn varint(settings: &mut Settings<'_>) -> Option<(AnyCodec, bool)> {
    let builder = VarintLengthCodec::builder();
    let codec = builder.max_frame(settings.length()).fail_fast(settings.flag()).build().ok()?;
    Some((codec.into(), true))
}

pub fn line(settings: &mut Settings<'_>) -> Option<(AnyCodec, bool)> {
    let netty = settings.netty();
    let codec = LineCodec::builder()
        .max_frame(settings.length())
        .keep_ending(settings.flag())
        .fail_fast(settings.flag())
        .strict_crlf(settings.flag())
        .netty_compatible(netty);
    Some((codec.build().ok()?.into(), !netty))
}

pub fn delimiter(settings: &mut Settings<'_>) -> Option<(AnyCodec, bool)> {
    let netty = settings.netty();
    let (max, keep, fail_fast) = (settings.length(), settings.flag(), settings.flag());
    let mut list = Vec::new();
    for _ in 0..=settings.byte() % 4 {
        let length = settings.length() % 6;
        list.push((0..length).map(|_| settings.byte()).collect::<Vec<u8>>());
    }
    let codec = DelimiterCodec::builder(list)
        .max_frame(max)
        .keep_delimiter(keep)
        .fail_fast(fail_fast)
        .netty_compatible(netty);
    Some((codec.build().ok()?.into(), !netty))
}

pub fn fixed_length(settings: &mut Settings<'_>) -> Option<(AnyCodec, bool)> {
    Some((FixedLengthCodec::new(settings.length()).ok()?.into(), true))
}

/// Runs `data` through a codec of the settings at its beginning, cut in several ways, and sends
/// every frame once more.
pub fn run(data: &[u8], codec: fn(&mut Settings<'_>) -> Option<(AnyCodec, bool)>) {
    let mut settings = Settings(data);
    let seed = settings.byte();
    let Some((codec, cuts_are_equal)) = codec(&mut settings) else { return };
    let input = settings.0;
    let whole = decode(codec.clone(), input, |_| input.len().max(1));
    let bytes = decode(codec.clone(), input, |_| 1);
    let pieces = decode(codec.clone(), input, |at| 1 + (at * 7 + usize::from(seed)) % 13);
    if cuts_are_equal {
        assert_eq!(whole, bytes);
        assert_eq!(whole, pieces);
    }
    for event in &whole {
        if let Event::Frame(frame) = event {
            send(codec.clone(), frame, if cuts_are_equal { 3 } else { usize::MAX / 2 });
        }
    }
}

/// Decodes `input` in pieces, each of the length that is told for its place.
pub fn decode(mut codec: AnyCodec, input: &[u8], piece: impl Fn(usize) -> usize) -> Vec<Event<'_>> {
    let (mut events, mut start, mut end) = (Vec::new(), 0, 0);
    while end < input.len() {
        end = (end + piece(end)).min(input.len());
        while start < end {
            let decoded = codec.decode(&input[start..end]);
            assert!(decoded.consumed <= end - start, "more consumed than there was");
            start += decoded.consumed;
            let event = match decoded.step {
                Step::More => break,
                Step::Frame(frame) => Event::Frame(frame),
                Step::Error(DecodeError::TooLong { .. }) => Event::TooLong,
                Step::Error(DecodeError::NegativeLength { .. }) => Event::Negative,
                Step::Error(DecodeError::Corrupt { .. }) => Event::Corrupt,
                Step::Error(error) => panic!("{error}"),
            };
            assert!(decoded.consumed > 0, "a step that consumes nothing");
            events.push(event);
        }
    }
    events
}

/// What can be encoded is one frame to a receiver, and what cannot is not written.
fn send(mut codec: AnyCodec, item: &[u8], piece: usize) {
    let mut out = Vec::new();
    match codec.encode(item, &mut out) {
        Ok(()) => {
            let events = decode(codec, &out, |_| piece);
            let is_one_frame = matches!(events[..], [Event::Frame(_)] | []);
            assert!(is_one_frame, "{item:?} was sent as {out:?} and read as {events:?}");
        }
        Err(_) => assert!(out.is_empty(), "written and refused"),
    }
}
