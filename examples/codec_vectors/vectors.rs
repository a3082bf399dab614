//! Codec vectors: reading them, and running them through the codecs.

use serde_json::{Map, Value};
use tightloop::codec::{
    AnyCodec, ByteOrder, Codec, DelimiterCodec, FixedLengthCodec, LengthFieldCodec, LineCodec, Step,
};
use tightloop::{DecodeError, Result};

/// What a codec is expected to do with some chunks of bytes.
pub struct Vector {
    codec: String,
    config: Map<String, Value>,
    chunks: Vec<Vec<u8>>,
    pub expected: Vec<Event>,
    pub note: String,
}

/// What comes out of a codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Frame(String),
    Error(String),
}

/// How a vector's input is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Whole,
    AsGiven,
    Bytes,
}

type Outcome<T> = std::result::Result<T, String>;

/// Reads a file of vectors.
pub fn parse(text: &str) -> Outcome<Vec<Vector>> {
    let list: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|error| format!("not a list of vectors: {error}"))?;
    let parsed = list.into_iter().enumerate();
    parsed.map(|(n, map)| vector(map).map_err(|error| format!("vector {n}: {error}"))).collect()
}

fn vector(mut map: Map<String, Value>) -> Outcome<Vector> {
    let mut take = |name: &str| map.remove(name).ok_or_else(|| format!("no {name}"));
    let mut expected = Vec::new();
    for event in array(&take("expect")?)? {
        expected.push(match (event.get("frame_hex"), event.get("error")) {
            (Some(frame), None) => Event::Frame(text(frame)?.to_lowercase()),
            (None, Some(error)) => Event::Error(text(error)?.to_owned()),
            _ => return Err(format!("neither frame_hex nor error: {event}")),
        });
    }
    let Value::Object(config) = take("config")? else { return Err("no config".to_owned()) };
    let vector = Vector {
        codec: text(&take("codec")?)?.to_owned(),
        config,
        chunks: bytes_list(&take("chunks_hex")?)?,
        expected,
        note: map.remove("note").as_ref().and_then(Value::as_str).unwrap_or("").to_owned(),
    };
    match map.keys().next() {
        Some(name) => Err(format!("unknown name {name}")),
        None => vector.codec(true).map(|_| vector),
    }
}

impl Vector {
    /// Whether the result is tied to the way in which the input is cut.
    pub fn depends_on_chunks(&self) -> bool {
        self.note.contains("depends on chunks")
    }

    /// The vector's codec, with the settings that make it do as netty does, or without.
    pub fn codec(&self, netty_compatible: bool) -> Outcome<AnyCodec> {
        let mut config = self.config.clone();
        let config = &mut config;
        let codec = match self.codec.as_str() {
            "length_field" => length_field(config, netty_compatible)?.map(AnyCodec::from),
            "line" => LineCodec::builder()
                .max_frame(number(config, "max_length", None)?)
                .keep_ending(!flag(config, "strip_delimiter", true)?)
                .fail_fast(flag(config, "fail_fast", false)?)
                .netty_compatible(netty_compatible)
                .build()
                .map(AnyCodec::from),
            "delimiter" => DelimiterCodec::builder(bytes_list(
                &config.remove("delimiters_hex").ok_or("no delimiters_hex")?,
            )?)
            .max_frame(number(config, "max_frame_length", None)?)
            .keep_delimiter(!flag(config, "strip_delimiter", true)?)
            .fail_fast(flag(config, "fail_fast", true)?)
            .netty_compatible(netty_compatible)
            .build()
            .map(AnyCodec::from),
            "fixed" => {
                FixedLengthCodec::new(number(config, "frame_length", None)?).map(AnyCodec::from)
            }
            other => return Err(format!("unknown codec {other}")),
        };
        match config.keys().next() {
            Some(name) => Err(format!("unknown config name {name}")),
            None => codec.map_err(|error| error.to_string()),
        }
    }

    /// Runs the vector's input through a codec: each chunk until nothing more comes of it.
    pub fn run(&self, mut codec: AnyCodec, cut: Cut) -> Vec<Event> {
        let whole = self.chunks.concat();
        let chunks: Vec<&[u8]> = match cut {
            Cut::Whole => vec![&whole],
            Cut::AsGiven => self.chunks.iter().map(Vec::as_slice).collect(),
            Cut::Bytes => whole.chunks(1).collect(),
        };
        let (mut events, mut unconsumed) = (Vec::new(), Vec::new());
        for chunk in chunks {
            unconsumed.extend_from_slice(chunk);
            while !unconsumed.is_empty() {
                let decoded = codec.decode(&unconsumed);
                let consumed = decoded.consumed;
                let is_done = matches!(decoded.step, Step::More);
                events.extend(event(decoded.step));
                unconsumed.drain(..consumed);
                if is_done {
                    break;
                }
            }
        }
        events
    }
}

fn length_field(
    config: &mut Map<String, Value>,
    netty_compatible: bool,
) -> Outcome<Result<LengthFieldCodec>> {
    let byte_order = match config.remove("byte_order").as_ref().map_or(Ok("big"), text)? {
        "big" => ByteOrder::Big,
        "little" => ByteOrder::Little,
        other => return Err(format!("unknown byte_order {other}")),
    };
    let adjustment = config.remove("length_adjustment").unwrap_or(Value::from(0));
    Ok(LengthFieldCodec::builder()
        .width(number(config, "length_field_length", None)?)
        .byte_order(byte_order)
        .offset(number(config, "length_field_offset", Some(0))?)
        .adjustment(adjustment.as_i64().ok_or("length_adjustment is not a number")?)
        .strip(number(config, "initial_bytes_to_strip", Some(0))?)
        .max_frame(number(config, "max_frame_length", None)?)
        .fail_fast(flag(config, "fail_fast", true)?)
        .netty_compatible(netty_compatible)
        .build())
}

fn event(step: Step<&[u8]>) -> Option<Event> {
    let error = match step {
        Step::More => return None,
        Step::Frame(frame) => return Some(Event::Frame(hex(frame))),
        Step::Error(DecodeError::TooLong { .. }) => "too_long".to_owned(),
        Step::Error(DecodeError::NegativeLength { .. }) => "negative_length".to_owned(),
        Step::Error(DecodeError::Corrupt { .. }) => "corrupt".to_owned(),
        Step::Error(other) => other.to_string(),
    };
    Some(Event::Error(error))
}

fn number(config: &mut Map<String, Value>, name: &str, default: Option<usize>) -> Outcome<usize> {
    match (config.remove(name), default) {
        (Some(value), _) => value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| format!("{name} is not a length: {value}")),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(format!("no {name}")),
    }
}

fn flag(config: &mut Map<String, Value>, name: &str, default: bool) -> Outcome<bool> {
    match config.remove(name) {
        Some(value) => value.as_bool().ok_or_else(|| format!("{name} is neither true nor false")),
        None => Ok(default),
    }
}

fn array(value: &Value) -> Outcome<&Vec<Value>> {
    value.as_array().ok_or_else(|| format!("not a list: {value}"))
}

fn text(value: &Value) -> Outcome<&str> {
    value.as_str().ok_or_else(|| format!("not a text: {value}"))
}

fn bytes_list(value: &Value) -> Outcome<Vec<Vec<u8>>> {
    array(value)?.iter().map(|item| bytes(text(item)?)).collect()
}

fn bytes(hex: &str) -> Outcome<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    match digits.as_deref().map(<[u8]>::as_chunks::<2>) {
        Some((pairs, [])) => Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect()),
        _ => Err(format!("not hexadecimal: {hex}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
