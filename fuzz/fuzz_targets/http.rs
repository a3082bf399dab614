//! The codec of the example `http`: whatever comes, and however it is cut, the same bytes are the same
//! requests and the same refusal; a head read in one pass is that read line by line; and a head that
//! is accepted is one for another parser too, of the same length. The first two bytes say where the rest
//! is cut.
#![no_main]

#[allow(dead_code, unused_imports, reason = "the fuzzer needs less of a request than a server")]
#[path = "../../examples/http/codec/mod.rs"]
mod codec;

use codec::{BodyReader, HeadReader, Refusal};

const LIMIT: u64 = 1000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[first, second], bytes)) = data.split_first_chunk::<2>() else { return };
    let whole = read(bytes, [bytes.len(); 2]);
    let mut cuts = [usize::from(first), usize::from(second)].map(|cut| cut.min(bytes.len()));
    cuts.sort();
    assert_eq!(read(bytes, cuts), whole);
    compare(bytes);
    // Nothing is read in one pass behind a first byte that was read alone.
    let mut by_lines = HeadReader::default();
    let first = by_lines.read(bytes.get(..1).unwrap_or(bytes));
    assert_eq!(HeadReader::default().read(bytes), first.and_then(|_| by_lines.read(bytes)));
});

/// Requests as the places where they end and the bytes of their bodies, and what ended it.
fn read(bytes: &[u8], cuts: [usize; 2]) -> (Vec<(usize, Vec<u8>)>, Option<Refusal>) {
    let (mut found, mut start) = (Vec::new(), 0);
    let (mut reader, mut body): (_, Option<(BodyReader, Vec<u8>)>) = (HeadReader::default(), None);
    for end in cuts.into_iter().chain([bytes.len()]) {
        loop {
            let here = &bytes[start..end];
            let step = match body.take() {
                None => reader.read(here).and_then(|head| match head {
                    None => Ok(0),
                    Some(head) => {
                        assert!(0 < head.length && head.length <= here.len());
                        body = Some((BodyReader::new(head.framing, LIMIT)?, Vec::new()));
                        Ok(head.length)
                    }
                }),
                Some((open, collected)) if open.is_done() => {
                    assert!(collected.len() as u64 <= LIMIT);
                    found.push((start, collected));
                    continue;
                }
                Some((mut open, mut collected)) => open.read(here).map(|(taken, piece)| {
                    collected.extend_from_slice(piece);
                    body = Some((open, collected));
                    taken
                }),
            };
            match step {
                Ok(0) => break,
                Ok(taken) => start += taken,
                Err(refusal) => return (found, Some(refusal)),
            }
        }
    }
    (found, None)
}

/// Only heads within httparse's own bounds are compared: it looks at no limit but that of headers.
fn compare(bytes: &[u8]) {
    let Ok(Some(head)) = HeadReader::default().read(bytes) else { return };
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.length)));
    let target = request.path.unwrap_or("").as_bytes();
    assert!(target.ends_with(head.path));
}
