//! Replies of shards, read again to be put together.

use crate::args::integer;
use crate::reply::Reply;

/// A reply of each shard.
pub type Parts = Vec<Vec<u8>>;

/// The line behind the first byte, and what follows it.
fn line(part: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\r', part).unwrap_or(part.len());
    (part.get(1..end).unwrap_or_default(), part.get(end + 2..).unwrap_or_default())
}

fn number(part: &[u8]) -> i64 {
    integer(line(part).0).unwrap_or_default()
}

pub fn sum(parts: &Parts) -> i64 {
    parts.iter().map(|part| number(part)).sum()
}

/// The first string or null of a list, and what follows it.
fn element(list: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = line(list);
    let head = list.len() - rest.len();
    let is_string = list.first() == Some(&b'$');
    match integer(length).and_then(|length| usize::try_from(length).ok()).filter(|_| is_string) {
        Some(length) => list.split_at((head + length + 2).min(list.len())),
        None => list.split_at(head),
    }
}

pub fn concatenate(parts: &Parts, reply: &mut Reply) {
    reply.array(sum(parts) as usize);
    for part in parts {
        reply.raw(line(part).1);
    }
}

pub fn in_order(parts: &Parts, order: &[usize], reply: &mut Reply) {
    let mut rests: Vec<&[u8]> = parts.iter().map(|part| line(part).1).collect();
    reply.array(order.len());
    for &part in order {
        if let Some(rest) = rests.get_mut(part) {
            let (first, behind) = element(rest);
            reply.raw(first);
            *rest = behind;
        }
    }
}

pub fn text(parts: &Parts) -> String {
    let text = |part: &Vec<u8>| {
        let bytes = line(part).1;
        String::from_utf8_lossy(bytes.strip_suffix(b"\r\n").unwrap_or(bytes)).into_owned()
    };
    parts.iter().map(text).collect()
}

/// The numbers of lists, added up place by place.
pub fn sums(parts: &Parts) -> Vec<i64> {
    let mut sums = Vec::new();
    for part in parts {
        let mut rest = line(part).1;
        for place in 0..number(part).max(0) as usize {
            sums.resize(sums.len().max(place + 1), 0);
            sums[place] += number(rest);
            rest = line(rest).1;
        }
    }
    sums
}
