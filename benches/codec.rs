//! What decoding costs: nanoseconds a frame, for frames of 64 bytes out of a buffer of 64 KiB, and
//! nanoseconds a byte for one frame that comes a byte at a time.
//!
//! ```text
//! cargo bench --bench codec
//! cargo bench --bench codec -- --only line --passes 10000     (one case, for an instruction count)
//! ```
//!
//! Each figure is the median of the rounds, with the fastest and the slowest. A case is measured
//! with its codec's type known, as a handler has it; `any` is the same through `AnyCodec`.

use std::hint::black_box;
use std::time::Instant;

use tightloop::codec::{
    AnyCodec, Codec, DelimiterCodec, FixedLengthCodec, LengthFieldCodec, LineCodec, Step,
    VarintLengthCodec,
};

/// What the loop's receive buffer has by default.
const BUFFER: usize = 64 * 1024;
const FRAME: usize = 64;
/// Short rounds, so that most of them are not interrupted on a machine that does other work too.
const ROUNDS: usize = 501;

struct Options {
    only: Option<String>,
    /// Passes over the buffer in a round; `--passes` also makes it the only round.
    passes: usize,
    rounds: usize,
}

fn options() -> Options {
    let mut options = Options { only: None, passes: 10, rounds: ROUNDS };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.size_hint().0) {
            ("--bench", _) => {}
            ("--only", 1..) => options.only = args.next(),
            ("--passes", 1..) => {
                options.rounds = 1;
                options.passes = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
            }
            _ => {
                eprintln!("usage: codec [--only CASE] [--passes N]");
                std::process::exit(2);
            }
        }
    }
    options
}

fn main() {
    let options = options();
    let mut body = vec![b'x'; FRAME];
    body[FRAME - 1] = b'\n';
    let lines = body.repeat(BUFFER / FRAME);
    body[FRAME - 2] = b'\r';
    let crlf = body.repeat(BUFFER / FRAME);
    let mut delimited = body.clone();
    delimited[FRAME - 4..].copy_from_slice(b"\r\n\r\n");
    let delimited = delimited.repeat(BUFFER / FRAME);

    let length = LengthFieldCodec::new(4).expect("a width");
    bench(&options, "length_field", &length, &encoded(&length, 4));
    bench(&options, "any(length_field)", &AnyCodec::from(length.clone()), &encoded(&length, 4));
    let varint = VarintLengthCodec::new(100).expect("a limit");
    bench(&options, "varint", &varint, &encoded(&varint, 1));
    let line = LineCodec::new(100).expect("a limit");
    bench(&options, "line", &line, &lines);
    bench(&options, "line(crlf)", &line, &crlf);
    let strict = LineCodec::builder().strict_crlf(true).build().expect("settings");
    bench(&options, "line(strict)", &strict, &crlf);
    let blank = DelimiterCodec::new("\r\n\r\n", 100).expect("a delimiter");
    bench(&options, "delimiter(1)", &blank, &delimited);
    let three = DelimiterCodec::builder(["\r\n", "\r", "\n"]).build().expect("delimiters");
    bench(&options, "delimiter(3)", &three, &crlf);
    let fixed = FixedLengthCodec::new(FRAME).expect("a length");
    bench(&options, "fixed_length", &fixed, &lines);

    for size in [64 << 10, 256 << 10, 1 << 20] {
        let big = LengthFieldCodec::builder().max_frame(2 << 20).build().expect("settings");
        let bytes = big.clone().encode_to_bytes(&vec![b'x'; size]).expect("it fits");
        trickle(&options, "length_field", &big, &bytes);
        let line = vec![b'x'; size];
        trickle(&options, "line", &LineCodec::new(2 << 20).expect("a limit"), &line);
        let delimiter = DelimiterCodec::builder(["xxxxxxxxy", "||"]).max_frame(2 << 20);
        trickle(&options, "delimiter", &delimiter.build().expect("delimiters"), &line);
    }
}

/// A buffer of frames that take 64 bytes with a header of so many.
fn encoded<C>(codec: &C, header: usize) -> Vec<u8>
where
    C: for<'a> Codec<Item<'a> = &'a [u8]> + Clone,
{
    let mut out = Vec::new();
    for _ in 0..BUFFER / FRAME {
        codec.clone().encode(&[b'x'; FRAME][header..], &mut out).expect("it fits");
    }
    assert_eq!(out.len(), BUFFER);
    out
}

/// Counts the frames of the buffer.
#[inline(never)]
fn pass<C>(codec: &mut C, mut input: &[u8]) -> usize
where
    C: for<'a> Codec<Frame<'a> = &'a [u8]>,
{
    let (mut frames, mut bytes) = (0, 0);
    while !input.is_empty() {
        let decoded = codec.decode(input);
        input = &input[decoded.consumed..];
        match decoded.step {
            Step::Frame(frame) => {
                frames += 1;
                // What a handler does at least: it looks at the frame.
                bytes += frame.len() + usize::from(frame[0]);
            }
            Step::More => break,
            Step::Error(error) => panic!("{error}"),
        }
    }
    black_box(bytes);
    frames
}

fn bench<C>(options: &Options, name: &str, codec: &C, input: &[u8])
where
    C: for<'a> Codec<Frame<'a> = &'a [u8]> + Clone,
{
    if options.only.as_ref().is_some_and(|only| only != name) {
        return;
    }
    let frames = BUFFER / FRAME;
    let mut codec = codec.clone();
    let mut rounds: Vec<f64> = Vec::new();
    for _ in 0..options.rounds {
        let start = Instant::now();
        for _ in 0..options.passes {
            assert_eq!(pass(&mut codec, black_box(input)), frames);
        }
        let nanos = start.elapsed().as_nanos() as f64;
        rounds.push(nanos / (options.passes * frames) as f64);
    }
    report(name, "ns a frame", rounds);
}

/// One frame of the input's length, a byte at a time.
fn trickle<C>(options: &Options, name: &str, codec: &C, input: &[u8])
where
    C: for<'a> Codec<Frame<'a> = &'a [u8]> + Clone,
{
    if options.only.is_some() {
        return;
    }
    let mut rounds: Vec<f64> = Vec::new();
    for _ in 0..ROUNDS / 100 {
        let mut codec = codec.clone();
        let start = Instant::now();
        for end in 1..=input.len() {
            let decoded = codec.decode(black_box(&input[..end]));
            assert!(decoded.consumed == 0 || end == input.len());
        }
        rounds.push(start.elapsed().as_nanos() as f64 / input.len() as f64);
    }
    report(&format!("{name}, {} KiB byte by byte", input.len() / 1024), "ns a byte", rounds);
}

fn report(name: &str, unit: &str, mut rounds: Vec<f64>) {
    rounds.sort_by(f64::total_cmp);
    let (fastest, slowest) = (rounds[0], rounds[rounds.len() - 1]);
    let median = rounds[rounds.len() / 2];
    println!("{name:<36} {median:>7.2} {unit} ({fastest:.2} .. {slowest:.2})");
}
