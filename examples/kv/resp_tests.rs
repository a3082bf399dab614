//! What the RESP codec reads, whole and in pieces, and what it refuses.

use super::*;
use crate::args::Args;

type Words = Vec<Vec<u8>>;

fn words(parser: &Parser, bytes: &[u8]) -> Words {
    Args::new(bytes, &parser.spans).from(0).map(<[u8]>::to_vec).collect()
}

/// All commands of `input`, which comes `step` bytes at a time, and the error at its end.
fn read_all(input: &[u8], step: usize) -> (Vec<Words>, Option<Vec<u8>>) {
    let (mut parser, mut partial) = (Parser::default(), None);
    let (mut commands, mut start, mut end) = (Vec::new(), 0, 0);
    while end < input.len() || start < end {
        let here = &input[start..end];
        let parsed = parser.parse(here, &mut partial, false);
        match parsed {
            Parsed::Command(length) => {
                commands.push(words(&parser, here));
                start += length;
            }
            Parsed::Line(length) => {
                commands.push(words(&parser, &parser.line));
                start += length;
            }
            Parsed::Broken(error) => return (commands, Some(error)),
            Parsed::Incomplete if end == input.len() => break,
            Parsed::Incomplete => end = input.len().min(end + step),
        }
    }
    (commands, None)
}

fn error_of(input: &[u8]) -> String {
    let error = read_all(input, input.len()).1.expect("an error");
    for step in [1, 7] {
        assert_eq!(read_all(input, step).1.as_ref(), Some(&error));
    }
    let text = String::from_utf8(error).expect("text");
    text.strip_prefix("ERR Protocol error: ").expect("the prefix").to_owned()
}

#[test]
fn commands_are_the_same_however_the_input_is_cut() {
    let long = vec![b'v'; 1000];
    let mut input =
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\nset 'a b' \"\\x41\\n\"\r\n".to_vec();
    input.extend_from_slice(
        b"*0\r\n*-1\r\n\r\n*3\r\n$3\r\nSET\r\n$12\r\nkey\r\nwithin1\r\n$1000\r\n",
    );
    input.extend_from_slice(&long);
    input.extend_from_slice(b"\r\nping\n");
    let text = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Words>();
    let expected = vec![
        text(&[b"GET", b"k"]),
        text(&[b"PING"]),
        text(&[b"set", b"a b", b"A\n"]),
        text(&[]),
        text(&[]),
        text(&[]),
        text(&[b"SET", b"key\r\nwithin1", &long]),
        text(&[b"ping"]),
    ];
    for step in [1, 2, 3, 5, 17, 100, input.len()] {
        assert_eq!(read_all(&input, step), (expected.clone(), None), "step {step}");
    }
}

#[test]
fn what_breaks_the_protocol_is_told_in_the_words_of_redis() {
    assert_eq!(error_of(b"*x\r\n"), "invalid multibulk length");
    assert_eq!(error_of(b"*1048577\r\n"), "invalid multibulk length");
    assert_eq!(error_of(b"*1\r\n:3\r\n"), "expected '$', got ':'");
    assert_eq!(error_of(b"*1\r\n$-1\r\n"), "invalid bulk length");
    assert_eq!(error_of(b"*1\r\n$536870913\r\n"), "invalid bulk length");
    assert_eq!(error_of(b"*1\r\n$05\r\nhello\r\n"), "invalid bulk length");
    assert_eq!(error_of(b"set \"a\r\n"), "unbalanced quotes in request");
    assert_eq!(error_of(b"set \"a\"b\r\n"), "unbalanced quotes in request");
    let endless = |start: &[u8]| [start, &[b'1'; 70_000]].concat();
    assert_eq!(error_of(&endless(b"get ")), "too big inline request");
    assert_eq!(error_of(&endless(b"*")), "too big mbulk count string");
    assert_eq!(error_of(&endless(b"*1\r\n$")), "too big bulk count string");
}

#[test]
fn strangers_may_send_no_more_than_a_password() {
    let read = |input: &[u8]| Parser::default().parse(input, &mut None, true);
    let unauthenticated = |what| broken(&format!("unauthenticated {what} length"));
    assert_eq!(read(b"*11\r\n"), unauthenticated("multibulk"));
    assert_eq!(read(b"*1\r\n$16385\r\n"), unauthenticated("bulk"));
    assert_eq!(read(b"*10\r\n$16384\r\n"), Parsed::Incomplete);
}

#[test]
fn a_long_argument_is_not_looked_at_before_it_is_there() {
    let (mut parser, mut partial) = (Parser::default(), None);
    let head = b"*2\r\n$4\r\nECHO\r\n$1000\r\n";
    assert_eq!(parser.parse(head, &mut partial, false), Parsed::Incomplete);
    let kept = partial.as_ref().expect("a partial command");
    assert_eq!((kept.needed, kept.left), (head.len() + 1002, Some(1)));
    assert!(kept.memory() < 200);
}
