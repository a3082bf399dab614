//! The house rules as a test: reads the source tree and lists every offence, with its place and
//! what to do about it. The rules need no parser: a scanner blanks comments and literals, and what
//! is left is searched for words and matched brackets. It relies on rustfmt for the spacing.

mod planted;

use std::{fs, ops::RangeInclusive, path::Path};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
const ROOTS: &str = "src tests examples benches bench fuzz sim-soak";

/// What may be longer than its limit: path, function (or "file"), reason.
const EXCEPTIONS: &[[&str; 3]] = &[];

/// The layers from the bottom up: a module may use its own layer and those below.
const LAYERS: [&str; 6] = [
    "error addr balance options metrics proxy_protocol listen_socket inherited systemd buf time sync sys",
    "driver",
    "conn tls handler control workers",
    "reactor",
    "engine",
    "server successor client codec per_conn sim micro lib",
];
const LEAVES: &str = "buf time sync sys";
const LEAVES_SEE: &str = "buf time sync sys error addr";
const CODEC_SEES: &str = "codec handler error conn::Conn conn::Input conn::ConnId buf::Writer \
    conn::Context conn::Datagram control::ServerHandle workers::JobPanic workers::SpawnError";

/// Words that may not occur in code: the words, the files in which they count, the files among
/// those in which they do not, whether test code counts, what a comment must say to allow them and
/// how many lines above it may stand, what to do.
struct Ban(Words, Words, Words, bool, Words, usize, &'static str);
type Words = &'static [&'static str];
#[rustfmt::skip] // a table
const BANS: &[Ban] = &[
    Ban(&["Instant::now", "SystemTime", ".elapsed()"], PURE, &[], false, &[], 0, "take the time as an argument"),
    Ban(&["::connect", "::connect_timeout", "::bind", "Socket::new"], PURE, &[], false, &[], 0, "no system call here"),
    Ban(&["mio::"], SRC, &["src/driver/ready"], true, &[], 0, "belongs to src/driver/ready"),
    Ban(&["io_uring::"], SRC, &["src/driver/uring"], true, &[], 0, "belongs to src/driver/uring"),
    Ban(&["libc::"], SRC, UNSAFE, true, &[], 0, "belongs behind a function of src/sys"),
    Ban(&["unsafe"], SRC, UNSAFE, true, &[], 0, "belongs to src/sys and src/driver/uring"),
    Ban(&["unsafe"], ALL, &[], true, &["SAFETY:", "# Safety"], 3, "say why it is sound: `// SAFETY: ...` above it"),
    Ban(&[".unwrap()", ".expect("], SRC, &[], false, &["// "], 2, "return the error, or prove in a comment there is none"),
    Ban(&["println!", "eprintln!", "print!", "eprint!", "dbg!"], SRC, &[], false, &[], 0, "use the log facade"),
    Ban(&["todo!", "unimplemented!"], ALL, &[], true, &[], 0, "finish it, or return an error"),
    Ban(&["static mut"], ALL, &[], true, &[], 0, "keep it in the loop, or use an atomic"),
    Ban(&["sleep"], &["tests/"], &[], true, &["sleep-ok:"], 1, "wait on an event, or say `// sleep-ok: <reason>`"),
];
const ALL: Words = &[""];
const SRC: Words = &["src/"];
const PURE: Words = &["src/conn", "src/tls", "src/buf", "src/codec"];
const UNSAFE: Words = &["src/sys/", "src/driver/uring"];

#[test]
fn the_tree_keeps_the_house_rules() {
    let sources = read_tree(Path::new(env!("CARGO_MANIFEST_DIR")));
    let is_tree = sources.iter().any(|source| source.path == "src/lib.rs");
    assert!(is_tree, "there is no src/lib.rs");
    let mut found = lengths(&sources, EXCEPTIONS);
    found.extend(sources.iter().flat_map(offences));
    found.sort();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn read_tree(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut paths: Vec<_> = ROOTS.split(' ').map(|name| root.join(name)).collect();
    while let Some(path) = paths.pop() {
        let inside = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
        if path.is_dir() && !inside.ends_with("target") {
            let entries = fs::read_dir(&path).expect("a readable directory");
            paths.extend(entries.map(|entry| entry.expect("a readable entry").path()));
        } else if path.is_file() && inside.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            sources.push(Source::new(&inside.replace('\\', "/"), &text));
        }
    }
    sources
}

type Names<'a> = Vec<&'a str>;
/// Takes the place of an offence and what to do about it.
type Report<'a> = &'a mut dyn FnMut(usize, &str);

fn offences(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for check in [purpose, layers, bans, features] {
        check(source, &mut |at, what| {
            found.push(format!("{}:{}: {what}", source.path, source.line_of(at)));
        });
    }
    found
}

fn purpose(source: &Source, found: Report) {
    let is_attribute = |code: &str| code.trim().is_empty() || code.starts_with("#!");
    let mut lines = source.code.lines().zip(&source.comments);
    let first = lines.find(|line| !line.1.is_empty() || !is_attribute(line.0));
    if !first.is_some_and(|(_, comment)| comment.starts_with("//!")) {
        found(0, "begin the file with a `//!` line: the reason it exists");
    }
}

fn lengths(sources: &[Source], exceptions: &[[&str; 3]]) -> Vec<String> {
    let mut found = Vec::new();
    let mut unneeded = exceptions.to_vec();
    let mut check = |path: &str, line, function: &str, length, limit| {
        let is_meant = |e: &[&str; 3]| e[..2] == [path, function];
        if length > limit && !exceptions.iter().any(is_meant) {
            let what = "lines, split by reason to exist: at most";
            found.push(format!("{path}:{line}: {function} {length} {what} {limit}"));
        } else if length > limit {
            unneeded.retain(|exception| !is_meant(exception));
        }
    };
    for source in sources {
        let lines = 1..source.lines.len();
        let length = lines.filter(|line| !source.is_test(*line)).count();
        check(&source.path, 1, "file", length, FILE_LINES);
        for (name, start, end) in items(&source.code, "fn") {
            let first = source.line_of(start);
            let length = source.line_of(end) + 1 - first;
            check(&source.path, first, name, length, FUNCTION_LINES);
        }
    }
    for [path, function, reason] in unneeded {
        found.push(format!("{path}:1: remove exception {function}: {reason}"));
    }
    found
}

fn layers(source: &Source, found: Report) {
    let Some(inside) = source.path.strip_prefix("src/") else {
        return;
    };
    let mut home: Names = inside.trim_end_matches(".rs").split('/').collect();
    home.retain(|name| *name != "mod");
    let rank_of = |module: &str| LAYERS.iter().position(|layer| has(layer, module));
    let Some(rank) = rank_of(home[0]) else {
        return found(0, "add this module to LAYERS in tests/tidy.rs");
    };
    let (is_leaf, is_codec) = (has(LEAVES, home[0]), home[0] == "codec");
    for (at, path) in source.paths(&home) {
        let to = path.first().copied().unwrap_or("");
        let ends = format!("{to}::{}", path.last().unwrap_or(&""));
        let what = match rank_of(to) {
            _ if home[0] == "lib" || source.is_test(source.line_of(at)) => continue,
            None => "write the path of the module that defines it".into(),
            Some(upper) if upper > rank => format!("L{rank} may not look up to L{upper}"),
            _ if is_leaf && !has(LEAVES_SEE, to) => format!("a leaf sees only {LEAVES_SEE}"),
            _ if !is_codec || has(CODEC_SEES, to) || has(CODEC_SEES, &ends) => continue,
            _ => format!("codec sees only {CODEC_SEES}"),
        };
        found(at, &format!("crate::{}: {what}", path.join("::")));
    }
}

fn has(list: &str, name: &str) -> bool {
    list.split(' ').any(|item| item == name)
}

fn bans(source: &Source, found: Report) {
    let is_in = |places: Words| places.iter().any(|place| source.path.starts_with(place));
    let is_meant = |ban: &&Ban| is_in(ban.1) && !is_in(ban.2);
    for Ban(words, _, _, in_tests, excuses, reach, advice) in BANS.iter().filter(is_meant) {
        for (at, word) in words.iter().flat_map(|word| find(&source.code, word)) {
            let line = source.line_of(at);
            let mut near = source.comments_above(line, *reach);
            let is_excused = near.any(|text| excuses.iter().any(|excuse| excused(text, excuse)));
            if !is_excused && (*in_tests || !source.is_test(line)) {
                found(at, &format!("`{word}`: {advice}"));
            }
        }
    }
}

/// A documentation comment proves nothing, a `# Safety` heading has its text below it, and every
/// other excuse needs a reason behind it.
fn excused(comment: &str, excuse: &str) -> bool {
    let (before, reason) = comment.split_once(excuse).unwrap_or(("none", ""));
    let is_place_right = before.is_empty() || !excuse.starts_with("//");
    is_place_right && (!reason.trim().is_empty() || comment.ends_with("# Safety"))
}

fn features(source: &Source, found: Report) {
    let bodies = items(&source.code, "fn");
    let is_inside = |at| bodies.iter().any(|body| body.1 < at && at < body.2);
    for word in ["cfg(", "cfg!(", "cfg_attr("] {
        for (at, _) in find(&source.code, word) {
            let end = closing(&source.code, at + word.len() - 1);
            let is_feature = !find(&source.code[at..end], "feature").is_empty();
            if source.path.starts_with("src/") && is_feature && is_inside(at) {
                found(at, "no cfg(feature) in a function: choose a module");
            }
        }
    }
}

/// A file with its code and its comments apart.
#[derive(Default)]
struct Source {
    path: String,
    /// One byte a character; comments and literals are blank.
    code: String,
    /// One text a line, empty where there is no comment.
    comments: Vec<String>,
    /// Where each line starts in `code`; the last one starts after the end of the text.
    lines: Vec<usize>,
    /// The lines of each item under a `#[cfg(test)]`.
    tests: Vec<RangeInclusive<usize>>,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let mut source = Source::default();
        source.lines.push(0);
        let text = format!("{}\n", text.trim_end());
        let mut rest = &text[..];
        let mut comment = String::new();
        while !rest.is_empty() {
            let (kind, length) = token(rest);
            for c in rest[..length].chars() {
                let is_code = (kind == "code" && c.is_ascii()) || c == '\n';
                source.code.push(if is_code { c } else { ' ' });
                if c == '\n' {
                    source.lines.push(source.code.len());
                    source.comments.push(std::mem::take(&mut comment));
                } else if kind == "comment" {
                    comment.push(c);
                }
            }
            rest = &rest[length..];
        }
        source.path = path.into();
        source.tests = source.test_lines();
        source
    }

    /// A file `tests.rs` is the body of a `#[cfg(test)] mod tests;` elsewhere.
    fn test_lines(&self) -> Vec<RangeInclusive<usize>> {
        if self.path.ends_with("/tests.rs") || self.code.contains("#![cfg(test)]") {
            return vec![1..=self.lines.len()];
        }
        let mut tests = Vec::new();
        for (at, _) in find(&self.code, "#[cfg(") {
            let end = closing(&self.code, at + 1);
            let condition = &self.code[at..end];
            if !find(condition, "test").is_empty() && !condition.contains("not(") {
                let last = item_end(&self.code, end + 1);
                tests.push(self.line_of(at)..=self.line_of(last));
            }
        }
        tests
    }

    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|test| test.contains(&line))
    }

    /// The comments of `line`, of `reach` lines above it, and further up as far as there is nothing
    /// but comments and attributes.
    fn comments_above(&self, line: usize, reach: usize) -> impl Iterator<Item = &String> {
        let is_near = move |index: &usize| {
            let code = self.code[self.lines[*index]..self.lines[*index + 1]].trim();
            let is_bare = code.is_empty() && !self.comments[*index].is_empty();
            line - index <= reach + 1 || is_bare || code.starts_with("#[")
        };
        let above = (0..line).rev().take_while(is_near);
        above.map(|index| &self.comments[index])
    }

    /// Every path that starts with `crate` or `super`, as seen from the root of the crate.
    fn paths<'a>(&'a self, home: &Names<'a>) -> Vec<(usize, Names<'a>)> {
        let (mut paths, modules) = (Vec::new(), items(&self.code, "mod"));
        let starts = ["crate::", "super::"].map(|word| find(&self.code, word));
        for (at, _) in starts.concat() {
            let around = modules.iter().filter(|module| module.1 < at && at < module.2);
            let base = home.iter().copied().chain(around.map(|module| module.0));
            if !self.code[..at].ends_with("::") {
                use_tree(&self.code, at, base.collect(), &mut paths);
            }
        }
        paths
    }
}

/// The kind and the length of what `text` starts with.
fn token(text: &str) -> (&'static str, usize) {
    let end_of = |end: &str, from: usize| {
        let place = text[from..].find(end);
        place.map_or(text.len(), |place| from + place + end.len())
    };
    let word = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let hashes = text[word..].find(|c| c != '#').unwrap_or(0);
    if has("r br cr", &text[..word]) && text[word + hashes..].starts_with('"') {
        let quote = format!("\"{}", "#".repeat(hashes));
        return ("literal", end_of(&quote, word + hashes + 1));
    }
    match text.as_bytes() {
        [b'/', b'/', ..] => ("comment", end_of("\n", 0) - 1),
        [b'/', b'*', ..] => ("comment", end_of("*/", 2)), // nested ones are not in use
        [b'"', ..] | [b'\'', b'\\', ..] => {
            let body = |end: usize| text[1..end].trim_end_matches('\\');
            let is_end = |end: &usize| (*end - 1 - body(*end).len()).is_multiple_of(2);
            let mut ends = text.match_indices(&text[..1]).map(|(at, _)| at).skip(1);
            ("literal", 1 + ends.find(is_end).unwrap_or(text.len() - 1))
        }
        [b'\'', ..] if text.chars().nth(2) == Some('\'') => ("literal", end_of("'", 1)),
        _ => ("code", word.max(1)),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands in `code` apart from other words; a lifetime is no word.
fn find<'a>(code: &str, word: &'a str) -> Vec<(usize, &'a str)> {
    let is_apart = |(at, _): &(usize, &str)| {
        let is_tail = code[..*at].ends_with(|c| is_word(c) || c == '\'');
        let is_head = code[at + word.len()..].starts_with(is_word);
        !(is_tail && word.starts_with(is_word) || is_head && word.ends_with(is_word))
    };
    let places = code.match_indices(word).filter(is_apart);
    places.map(|(at, _)| (at, word)).collect()
}

/// The place of the bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    let is_end = |c| {
        depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
        depth == 0
    };
    let end = code[open..].find(is_end);
    end.map_or(code.len() - 1, |offset| open + offset)
}

/// The end of the item at `at`: the `}` of its first block, or a `;` before any block.
fn item_end(code: &str, at: usize) -> usize {
    let offset = code[at..].find(['(', '[', '{', ';', '}']);
    let next = offset.map_or(code.len() - 1, |offset| at + offset);
    match code.as_bytes()[next] {
        b'(' | b'[' => item_end(code, closing(code, next) + 1),
        b'{' => closing(code, next),
        _ => next,
    }
}

/// Name, first and last byte of each item that has a body.
fn items<'a>(code: &'a str, keyword: &str) -> Vec<(&'a str, usize, usize)> {
    let mut items = Vec::new();
    for (at, _) in find(code, keyword) {
        let rest = code[at + keyword.len()..].trim_start();
        let name = &rest[..rest.find(|c| !is_word(c) && c != '$').unwrap_or(0)];
        let end = item_end(code, at);
        if !name.is_empty() && code[end..].starts_with('}') {
            items.push((name, at, end));
        }
    }
    items
}

/// Adds every path of the tree at `at`, and returns the place behind it.
fn use_tree<'a>(
    code: &'a str,
    at: usize,
    mut path: Names<'a>,
    to: &mut Vec<(usize, Names<'a>)>,
) -> usize {
    let mut at = at + code[at..].len() - code[at..].trim_start().len();
    if code[at..].starts_with('{') {
        let end = closing(code, at);
        while at < end {
            at = use_tree(code, at + 1, path.clone(), to);
            at += code[at..end].find(',').unwrap_or(end - at); // steps over `as name`
        }
        return end + 1;
    }
    let length = code[at..].find(|c| !is_word(c) && c != '*').unwrap_or(0);
    match &code[at..at + length] {
        "" => return at, // behind a last comma
        "super" => drop(path.pop()),
        "crate" => path.clear(),
        "self" => {}
        name => path.push(name),
    }
    at += length;
    if code[at..].starts_with("::") && !code[at + 2..].starts_with('<') {
        return use_tree(code, at + 2, path, to);
    }
    to.push((at, path));
    at
}
