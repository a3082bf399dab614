//! Patterns of KEYS and SCAN: `*`, `?`, `[a-c]`, `[^a]` and `\` as Redis has them.

/// Most stars that are tried against each other, and the most that all classes of a pattern may be:
/// a class is read again for each byte. A pattern with more, which could take longer than anyone
/// would wait, matches nothing.
const MAX_STARS: usize = 1000;
const MAX_CLASS_BYTES: usize = 4096;

/// A pattern that was looked at once, and not for each key.
#[derive(Clone, Copy)]
pub struct Pattern<'a> {
    /// `None` matches nothing.
    bytes: Option<&'a [u8]>,
}

impl<'a> Pattern<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Pattern { bytes: is_bearable(bytes).then_some(bytes) }
    }

    /// Whether all of `text` fits the pattern.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self.bytes {
            Some(b"*") => true,
            Some(pattern) => match_from(pattern, text),
            None => false,
        }
    }
}

fn is_bearable(pattern: &[u8]) -> bool {
    let (mut rest, mut stars, mut class_bytes) = (pattern, 0, 0);
    while let Some(at) = memchr::memchr3(b'*', b'[', b'\\', rest) {
        let behind = &rest[at + 1..];
        rest = match rest[at] {
            b'*' => {
                stars += 1;
                behind
            }
            b'[' => {
                let (_, after) = class(behind, 0);
                class_bytes += behind.len() - after.len();
                after
            }
            _ => behind.get(1..).unwrap_or_default(),
        };
        if stars > MAX_STARS || class_bytes > MAX_CLASS_BYTES {
            return false;
        }
    }
    true
}

/// Only the last star has to be tried again: what an earlier one could take more of, the last one
/// can take as well. So the time is at most the product of the lengths.
fn match_from(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            retry = Some((rest, text));
            pattern = rest;
            continue;
        }
        if pattern.is_empty() && text.is_empty() {
            return true;
        }
        if let Some((&byte, text_rest)) = text.split_first()
            && let Some(rest) = match_one(pattern, byte)
        {
            (pattern, text) = (rest, text_rest);
            continue;
        }
        match retry {
            Some((after_star, [_, rest @ ..])) => {
                retry = Some((after_star, rest));
                (pattern, text) = (after_star, rest);
            }
            _ => return false,
        }
    }
}

/// The pattern behind what matches this byte, if it does.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let (matched, rest) = class(rest, byte);
            matched.then_some(rest)
        }
        [b'\\', escaped, rest @ ..] => (*escaped == byte).then_some(rest),
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// Whether the class matches this byte, and what is behind the class.
fn class(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut class) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        class = match class {
            // A class that is not closed ends with the pattern.
            [] => return (found != negated, class),
            [b']', rest @ ..] => return (found != negated, rest),
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [single, rest @ ..] => {
                found |= *single == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_redis() {
        let cases = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("a**b", "ab", true),
            ("[a", "a", true),
        ];
        for (pattern, text, expected) in cases {
            let got = Pattern::new(pattern.as_bytes()).matches(text.as_bytes());
            assert_eq!(got, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_does_not_take_for_ever() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!Pattern::new(pattern.as_bytes()).matches(&[b'a'; 10_000]));
    }

    /// Each of these is read once. For each key it would be minutes.
    #[test]
    fn a_long_pattern_is_not_read_for_each_key() {
        let long = "x".repeat(8 << 20);
        for pattern in [long.clone(), format!("*{long}"), format!("*[{long}"), format!("[{long}]")]
        {
            let pattern = Pattern::new(pattern.as_bytes());
            assert!((0..100_000).all(|_| !pattern.matches(b"xx")));
        }
        assert!(Pattern::new(long.as_bytes()).matches(long.as_bytes()));
        let class = format!("[{}]", "b".repeat(MAX_CLASS_BYTES - 2) + "a");
        assert!(Pattern::new(class.as_bytes()).matches(b"a"));
        assert!(!Pattern::new(format!("{class}[ab]").as_bytes()).matches(b"aa"));
    }
}
