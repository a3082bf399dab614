//! What our own parts cost one by one: buffers, connection table, timing wheel, mailbox, codecs,
//! and a turn of the loop over a driver without a network.
//!
//! ```text
//! cargo bench --features sim --bench micro                    (nanoseconds, for a first look)
//! ci/instructions.py                                          (instructions, against the baseline)
//! cargo bench --features sim --bench micro -- --list
//! cargo bench --features sim --bench micro -- --case NAME --times N
//! ```
//!
//! The last form does one thing so often and ends: what `ci/instructions.py` runs under valgrind.

use std::hint::black_box;
use std::process::exit;
use std::time::Instant;

use tightloop::codec::{
    Codec, DelimiterCodec, FixedLengthCodec, LengthFieldCodec, LineCodec, Step, VarintLengthCodec,
};
use tightloop::micro::{CASES, Case};

/// Short rounds, so that most of them are not interrupted on a machine that does other work too.
const ROUNDS: usize = 101;
/// What is done in a round.
const TIMES: usize = 2_000;
const FRAME: usize = 64;
/// Frames in the buffer that codecs decode.
const FRAMES: usize = 200;

const CODECS: &[Case] = &[
    Case { name: "codec: a frame of 64 B, length field", work: length_field },
    Case { name: "codec: a frame of 64 B, varint length", work: varint },
    Case { name: "codec: a frame of 64 B, line", work: line },
    Case { name: "codec: a frame of 64 B, delimiter", work: delimiter },
    Case { name: "codec: a frame of 64 B, fixed length", work: fixed_length },
];

fn main() {
    let cases = || CASES.iter().chain(CODECS);
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => cases().for_each(measure),
        ["--list"] => cases().for_each(|case| println!("{}", case.name)),
        ["--case", name, "--times", times] => {
            let case = cases().find(|case| case.name == name);
            match (case, times.parse()) {
                (Some(case), Ok(times)) => (case.work)(times),
                _ => refuse(),
            }
        }
        _ => refuse(),
    }
}

fn refuse() -> ! {
    eprintln!("usage: micro [--list | --case NAME --times N]");
    exit(2);
}

/// The difference of two run lengths is free of what a case does first.
fn measure(case: &Case) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (case.work)(TIMES);
            let short = start.elapsed().as_nanos() as f64;
            let start = Instant::now();
            (case.work)(2 * TIMES);
            (start.elapsed().as_nanos() as f64 - short) / TIMES as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{:<52} {:>9.1} ns", case.name, rounds[ROUNDS / 2]);
}

fn length_field(frames: usize) {
    let codec = LengthFieldCodec::new(4).expect("a width");
    let frame = codec.clone().encode_to_bytes(&[b'x'; FRAME - 4]).expect("it fits");
    decode(codec, &frame, frames);
}

fn varint(frames: usize) {
    let codec = VarintLengthCodec::new(100).expect("a limit");
    let frame = codec.clone().encode_to_bytes(&[b'x'; FRAME - 1]).expect("it fits");
    decode(codec, &frame, frames);
}

fn line(frames: usize) {
    let codec = LineCodec::new(100).expect("a limit");
    decode(codec, &ending_with(b"\n"), frames);
}

fn delimiter(frames: usize) {
    let codec = DelimiterCodec::new("\r\n\r\n", 100).expect("a delimiter");
    decode(codec, &ending_with(b"\r\n\r\n"), frames);
}

fn fixed_length(frames: usize) {
    decode(FixedLengthCodec::new(FRAME).expect("a length"), &[b'x'; FRAME], frames);
}

fn ending_with(end: &[u8]) -> Vec<u8> {
    let mut frame = vec![b'x'; FRAME - end.len()];
    frame.extend_from_slice(end);
    frame
}

/// Decodes a buffer of such frames again and again.
fn decode<C>(mut codec: C, frame: &[u8], mut frames: usize)
where
    C: for<'a> Codec<Frame<'a> = &'a [u8]>,
{
    assert_eq!(frame.len(), FRAME);
    let buffer = frame.repeat(FRAMES);
    while frames > 0 {
        let mut input = black_box(&buffer[..]);
        while frames > 0 && !input.is_empty() {
            let decoded = codec.decode(input);
            input = &input[decoded.consumed..];
            match decoded.step {
                Step::Frame(frame) => black_box(frame),
                Step::More => panic!("whole frames were given"),
                Step::Error(error) => panic!("{error}"),
            };
            frames -= 1;
        }
    }
}
