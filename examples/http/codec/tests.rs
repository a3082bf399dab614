//! What the codec reads and what it refuses, whole and in pieces.

use proptest::prelude::*;

use crate::codec::*;

const LIMIT: u64 = 1000;

// Of the codec itself.
const MAX_LINE_BYTES: usize = 8 * 1024;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_FIELDS: usize = 100;

/// What came of a stream of bytes: requests with their bodies, then perhaps a refusal.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    requests: Vec<(Method, Vec<u8>, Vec<u8>)>,
    refusal: Option<Refusal>,
}

/// Reads all requests of `bytes`, of which ever more arrive, as `cuts` says: places, in order.
fn read_in_pieces(bytes: &[u8], cuts: &[usize]) -> Outcome {
    let (mut outcome, mut start) = (Outcome::default(), 0);
    let (mut reader, mut body): (_, Option<BodyReader>) = (HeadReader::default(), None);
    for end in cuts.iter().copied().chain([bytes.len()]) {
        loop {
            let here = &bytes[start.min(end)..end];
            let step = match &mut body {
                None => reader.read(here).and_then(|head| {
                    let Some(head) = head else { return Ok(0) };
                    outcome.requests.push((head.method, head.path.to_vec(), Vec::new()));
                    body = Some(BodyReader::new(head.framing, LIMIT)?);
                    Ok(head.length)
                }),
                Some(open) if !open.is_done() => open.read(here).map(|(taken, piece)| {
                    let request = outcome.requests.last_mut().unwrap();
                    request.2.extend_from_slice(piece);
                    taken
                }),
                Some(_) => {
                    body = None;
                    continue;
                }
            };
            match step {
                Ok(0) => break,
                Ok(taken) => start += taken,
                Err(refusal) => {
                    outcome.refusal = Some(refusal);
                    return outcome;
                }
            }
        }
    }
    outcome
}

/// Whole, byte by byte, and cut at each place: always the same.
fn read(bytes: &[u8]) -> Outcome {
    let whole = read_in_pieces(bytes, &[]);
    let every: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(read_in_pieces(bytes, &every), whole, "byte by byte");
    for cut in every.into_iter().take(2000) {
        assert_eq!(read_in_pieces(bytes, &[cut]), whole, "cut at {cut}");
    }
    whole
}

fn status(bytes: &[u8]) -> &'static str {
    read(bytes).refusal.map_or("", |refusal| &refusal.status[..3])
}

/// The head at the start, line by line: `plain.rs` is asked only where nothing was read yet.
fn by_lines(bytes: &[u8]) -> Result<Option<Head<'_>>, Refusal> {
    let mut reader = HeadReader::default();
    reader.read(bytes.get(..1).unwrap_or(bytes))?;
    reader.read(bytes)
}

/// The only head.
fn head(bytes: &[u8]) -> Head<'_> {
    let head = HeadReader::default().read(bytes);
    assert_eq!(head, by_lines(bytes));
    head.unwrap().unwrap()
}

#[test]
fn requests_follow_one_another() {
    let bytes = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n\r\nPOST /c HTTP/1.1\r\nhost:a\r\n\
        content-length: 3\r\n\r\nabcPUT /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
        3;x=\"\\\";\"\r\nabc\r\n02\r\nde\r\n0\r\nEnd: yes\r\n\r\nHEAD http://h:1/e HTTP/1.0\r\n\r\n";
    let requests: Vec<_> = [
        (Method::Get, "/a?b", ""),
        (Method::Post, "/c", "abc"),
        (Method::Other, "/d", "abcde"),
        (Method::Head, "/e", ""),
    ]
    .map(|(method, path, body)| (method, path.into(), body.into()))
    .into();
    assert_eq!(read(bytes), Outcome { requests, refusal: None });
}

#[test]
fn a_head_tells_what_becomes_of_its_connection() {
    for (version, lines, persistence) in [
        ("1.1", "", Persistence::Stays),
        ("1.1", "Connection: keep-alive\r\n", Persistence::Stays),
        ("1.1", "Connection: Close\r\n", Persistence::Closes),
        ("1.1", "Connection: keep-alive, ,\t close\r\n", Persistence::Closes),
        ("1.1", "Connection: closed\r\nConnection: upgrade\r\n", Persistence::Stays),
        ("1.0", "", Persistence::Closes),
        ("1.0", "Connection: Keep-Alive\r\n", Persistence::StaysAsAsked),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", Persistence::Closes),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(head(text.as_bytes()).persistence, persistence, "{text}");
    }
}

#[test]
fn a_head_tells_of_an_expectation() {
    let text = |version| format!("PUT / HTTP/{version}\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n");
    assert!(head(text("1.1").as_bytes()).expects_continue);
    assert!(!head(text("1.0").as_bytes()).expects_continue);
    assert_eq!(status(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, more\r\n\r\n"), "417");
    assert_eq!(status(b"PUT / HTTP/1.0\r\nExpect: more\r\n\r\n"), "");
}

#[test]
fn hosts_are_judged() {
    for host in ["a", "a:80", "a:", "127.0.0.1:8080", "[::1]", "[::1]:80", "a_b.c-d", "%41"] {
        let text = format!("GET / HTTP/1.1\r\nHost: \t {host} \r\n\r\n");
        assert_eq!(status(text.as_bytes()), "", "{host}");
    }
    for host in [
        "", ":80", "a:b", "a:123456", "a b", "a,b", "u@a", "a/b", "a?b", "a#b", "[::1", "::1",
        "[]", "[::1]80", "[g]", "a\u{e9}", "a\\b",
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(status(text.as_bytes()), "400", "{host}");
    }
}

#[test]
fn lengths_are_digits() {
    for (value, expected) in [
        ("0", ""),
        ("000", ""),
        ("", "400"),
        ("+0", "400"),
        ("-0", "400"),
        ("0x0", "400"),
        ("0 0", "400"),
        ("0,0", "400"),
        ("1_0", "400"),
        ("0.0", "400"),
        ("\u{661}", "400"),
        ("1001", "413"),
        ("18446744073709551616", "413"),
        ("99999999999999999999999999", "413"),
        ("00000000000000000000000000000", ""),
    ] {
        let text = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\n");
        assert_eq!(status(text.as_bytes()), expected, "{value}");
    }
}

#[test]
fn chunks_are_read_strictly() {
    for (chunks, expected) in [
        ("0\r\n\r\n", ""),
        ("0;a;b=c;d=\"e f\"\r\n\r\n", ""),
        ("0000000000000001\r\na\r\n0\r\na: b\r\n\r\n", ""),
        ("3e8\r\n", ""),
        ("3e9\r\n", "413"),
        ("3e8\r\n", ""),
        ("ffffffffffffffff\r\n", "413"),
        ("10000000000000000\r\n", "400"),
        ("\r\n", "400"),
        ("-1\r\n", "400"),
        ("+1\r\n", "400"),
        ("0x1\r\n", "400"),
        (" 1\r\n", "400"),
        ("1 \r\n", "400"),
        ("1 ;a\r\n", "400"),
        ("1; a\r\n", "400"),
        ("1;\r\n", "400"),
        ("1;a=\r\n", "400"),
        ("1;a=\"b\r\n", "400"),
        ("1;a=\"b\\\r\n", "400"),
        ("1;a=\"b\"c\r\n", "400"),
        ("1\n", "400"),
        ("1\ra", "400"),
        ("1\r\nab", "400"),
        ("1\r\na\n", "400"),
        ("1\r\na\r\r", "400"),
        ("0\r\n\n", "400"),
        ("0\r\n a: b\r\n\r\n", "400"),
        ("0\r\na : b\r\n\r\n", "400"),
        ("0\r\na\0: b\r\n\r\n", "400"),
        ("0\r\nnothing\r\n\r\n", "400"),
    ] {
        let text =
            format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(status(text.as_bytes()), expected, "{chunks:?}");
    }
}

#[test]
fn chunks_that_are_mostly_framing_are_refused() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let many = format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(30);
    assert_eq!(status(format!("{head}{many}").as_bytes()), "400");
    assert_eq!(status(format!("{head}1;{}", "x".repeat(300)).as_bytes()), "400");
    let trailers = format!("a: {}\r\n", "b".repeat(95)).repeat(90);
    assert_eq!(status(format!("{head}0\r\n{trailers}").as_bytes()), "431");
}

#[test]
fn every_limit_of_a_head_is_exact() {
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(length - 16));
    assert_eq!(status(format!("{}Host: a\r\n\r\n", line(MAX_LINE_BYTES)).as_bytes()), "");
    assert_eq!(status(line(MAX_LINE_BYTES + 1).as_bytes()), "414");
    assert_eq!(status(&line(MAX_LINE_BYTES + 1).as_bytes()[..MAX_LINE_BYTES]), "414");
    let start = "GET / HTTP/1.1\r\nHost: a\r\nb: ";
    let whole = |length: usize| format!("{start}{}\r\n\r\n", "c".repeat(length - start.len() - 4));
    assert_eq!(status(whole(MAX_HEAD_BYTES).as_bytes()), "");
    assert_eq!(status(whole(MAX_HEAD_BYTES + 1).as_bytes()), "431");
    let fields = |count| "a: b\r\n".repeat(count);
    for version in ["1.0", "1.1"] {
        let text = |count| format!("GET / HTTP/{version}\r\n{}Host: a\r\n\r\n", fields(count));
        assert_eq!(status(text(MAX_FIELDS - 1).as_bytes()), "");
        assert_eq!(status(text(MAX_FIELDS).as_bytes()), "431");
    }
    assert_eq!(status(b"\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n"), "");
    assert_eq!(status(b"\r\n\r\n\r\n\r\n\r\n"), "400");
}

#[test]
fn a_control_character_is_found_wherever_it_stands() {
    for byte in (0..0x20).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        for place in 0..20 {
            let mut value = [b'v'; 20];
            value[place] = byte;
            let text = [b"GET / HTTP/1.0\r\na: ", &value[..], b"\r\n\r\n"].concat();
            assert_eq!(status(&text), "400", "{byte} at {place}");
        }
    }
    for byte in (0x20..0x7f).chain(0x80..=0xff).chain([b'\t']) {
        let text = [b"GET / HTTP/1.0\r\na: vvv", &[byte; 9][..], b"v\r\n\r\n"].concat();
        assert_eq!(status(&text), "", "{byte}");
    }
}

#[test]
fn whether_a_request_has_begun() {
    let mut reader = HeadReader::default();
    for (bytes, begun) in [
        (&b""[..], false),
        (b"\r", true),
        (b"\r\n", false),
        (b"\r\nG", true),
        (b"\r\nGET / HTTP/1.1\r\n", true),
    ] {
        assert_eq!(reader.read(bytes), Ok(None));
        assert_eq!(reader.has_begun(bytes.len()), begun, "{bytes:?}");
    }
}

/// Bytes of which requests are made, so that many are nearly one.
fn near_requests() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"GET ",
        b"POST ",
        b"/ ",
        b"/a ",
        b"HTTP/1.1\r\n",
        b"HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Host: a.b:80\r\n",
        b"Host: ",
        b"\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\0",
        b"Expect: 100-continue\r\n",
        b"0\r\n",
        b"a: b\r\n",
        b"Connection: close\r\n",
        b"GET /a?b HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    let word = proptest::sample::select(words.to_vec());
    proptest::collection::vec(word, 0..16).prop_map(|words| words.concat())
}

/// Heads that `plain.rs` reads, and those that it only just does not.
fn near_heads() -> impl Strategy<Value = Vec<u8>> {
    let starts: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"GET /a/b?c=d HTTP/1.1\r\n",
        b"GET /a/b HTTP/1.0\r\n",
        b"HEAD / HTTP/1.1\r\n",
    ];
    let lines: &[&[u8]] = &[
        b"Host: a\r\n",
        b"Host: 127.0.0.1:65535\r\n",
        b"host: [::1]:80\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Accept: */*\r\n",
    ];
    let lines = proptest::collection::vec(proptest::sample::select(lines.to_vec()), 1..5);
    let lines = lines.prop_map(|lines| lines.concat());
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3);
    let parts = (proptest::sample::select(starts.to_vec()), lines, changes);
    parts.prop_map(|(start, lines, changes)| {
        let mut bytes = [start, &lines, b"\r\n"].concat();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

/// The first request by another parser, which allows more: length, method and path.
fn by_httparse(bytes: &[u8]) -> Option<(usize, String, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) | Err(_) => return None,
    };
    Some((length, request.method?.to_owned(), request.path?.as_bytes().to_vec()))
}

proptest! {
    #[test]
    fn what_is_accepted_another_parser_takes_for_the_same(bytes in near_requests()) {
        if let Ok(Some(head)) = HeadReader::default().read(&bytes) {
            let (length, method, target) = by_httparse(&bytes).expect("it is a request");
            prop_assert_eq!((length, &target[..]), (head.length, head.path));
            prop_assert_eq!(method == "GET", head.method == Method::Get);
        }
    }

    #[test]
    fn cuts_change_nothing(
        bytes in near_requests(),
        mut cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort();
        prop_assert_eq!(read_in_pieces(&bytes, &cuts), read_in_pieces(&bytes, &[]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn a_head_is_the_same_in_one_pass_and_line_by_line(bytes in near_heads()) {
        prop_assert_eq!(HeadReader::default().read(&bytes), by_lines(&bytes));
    }
}
