//! The rules are broken on purpose, one by one: each has to say so.

use super::*;

/// What the rules say about one file, without its path.
fn judge(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(path, &format!("//! Why.\n{text}"));
    let found = offences(&source).into_iter();
    found.map(|text| text.strip_prefix(path).unwrap_or(&text).to_string()).collect()
}

/// Asserts one offence on each of the `lines`, counted from the line below the `//!`.
fn assert_lines(path: &str, text: &str, lines: &[usize]) {
    let found = judge(path, text);
    let expected: Vec<_> = lines.iter().map(|line| format!(":{}:", line + 1)).collect();
    let fits = found.len() == lines.len()
        && expected.iter().all(|line| found.iter().any(|text| text.starts_with(line)));
    assert!(fits, "{path}\n{text}\nexpected {expected:?}, found {found:#?}");
}

#[test]
fn scanner_blanks_comments_and_literals_and_keeps_lifetimes() {
    let source = |text| Source::new("src/conn/x.rs", text);
    let cases = [
        (r#"a("}\"{", '"', b'\'', '\u{7d}') b"#, "a ,  ,  b ,   b"),
        ("a /* { */ b // }\nc", "a b c"),
        (r###"a(r#"\"#, br"\", r"}") b"###, "a  ,  ,   b"),
        ("fn f<'a>(x: &'a str) {} // 'x", "fn f<'a>(x: &'a str) {}"),
        ("r#type 'é' '{' b", "r#type b"),
        ("\"multi\n{ line\" b", "b"),
    ];
    let words = |text: &str| text.replace(['(', ')'], " ").split_whitespace().collect::<String>();
    for (text, code) in cases {
        assert_eq!(words(&source(text).code), words(code), "{text}");
    }
    assert_eq!(source("a\n\"\n\"\nb // c").comments, ["", "", "", "// c"]);
}

#[test]
fn a_file_begins_with_its_purpose() {
    let is_fine = |text| offences(&Source::new("tests/x.rs", text)).is_empty();
    assert!(is_fine("//! Why.\nfn f() {}"));
    assert!(is_fine("#!/usr/bin/env x\n#![no_main]\n\n//! Why.\n"));
    assert!(!is_fine("use a::b;\n//! Why.\n"));
    assert!(!is_fine("// Licence\n//! Why.\n"));
    assert!(!is_fine("fn f() {}\n") && !is_fine(""));
}

#[test]
fn lengths_are_limited_and_exceptions_must_be_needed() {
    let body = "    f();\n".repeat(FUNCTION_LINES - 1);
    let text = format!("fn short() -> [u8; 4] {{ \"{{\" }}\nfn long() {{\n{body}}}\nfn g();");
    let long = [Source::new("src/a.rs", &text)];
    let is_one = |found: Vec<String>, start| found.len() == 1 && found[0].starts_with(start);
    assert!(is_one(lengths(&long, &[]), "src/a.rs:2: long 71 lines"));
    assert!(lengths(&long, &[["src/a.rs", "long", "why"]]).is_empty());
    assert!(is_one(lengths(&long[..0], &[["src/a.rs", "long", "why"]]), "src/a.rs:1: remove"));
    let lines = "//\n".repeat(FILE_LINES);
    let tests = "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n";
    assert!(lengths(&[Source::new("src/a.rs", &format!("{lines}{tests}"))], &[]).is_empty());
    let long = [Source::new("src/a.rs", &format!("{lines}\n{tests}//"))];
    assert!(is_one(lengths(&long, &[]), "src/a.rs:1: file 402 lines"));
}

#[test]
fn imports_look_downwards_to_the_defining_module() {
    for (path, text) in [
        ("src/conn/a.rs", "use crate::reactor::Reactor;"),
        ("src/conn/a.rs", "fn f() { crate::engine::start::<u8>(); }"),
        ("src/conn/mod.rs", "use super::server::Server;"),
        ("src/conn/a.rs", "use super::super::server::Server;"),
        ("src/addr.rs", "mod imp { use super::super::server::Server; }"),
        ("src/addr.rs", "use crate::{buf::{self, Pool}, driver::Driver as D};"),
        ("src/buf/pool.rs", "use crate::options::Options;"),
        ("src/sys/socket.rs", "use crate::metrics::Counters;"),
        ("src/reactor/mod.rs", "use crate::Action;"),
        ("src/reactor/mod.rs", "use crate::*;"),
        ("src/codec/line.rs", "use crate::reactor::Reactor;"),
        ("src/codec/line.rs", "use crate::conn::{Conn, state::State};"),
        ("src/reactor/mod.rs", "#[cfg(not(test))]\nuse crate::server::Server;"),
    ] {
        assert_lines(path, text, &[text.lines().count()]);
    }
    assert_lines("src/unheard_of.rs", "", &[0]);
    assert_lines("src/conn/a.rs", "use crate::{\n    error::{A, B},\n    engine::C,\n};", &[3]);
}

#[test]
fn imports_that_look_downwards_are_fine() {
    for (path, text) in [
        ("src/reactor/mod.rs", "use crate::{\n    conn::{Conn, Input},\n    driver,\n};"),
        ("src/conn/a.rs", "use super::{id::ConnId, state};\npub(in crate::conn) fn f() {}"),
        ("src/buf/pool.rs", "use crate::{addr::A, error::E, time::T};"),
        ("src/codec/line.rs", "use crate::conn::{Conn, Input};\nuse super::Codec;"),
        ("src/conn/a.rs", "/// See [`crate::Server`].\nfn f() {} // crate::server"),
        ("src/conn/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::server::Server;\n}"),
        ("src/addr.rs", "mod imp {\n    use super::Address;\n}"),
        ("src/sys/a.rs", "mod b {\n    mod c {\n        pub(in super::super) use d::E;\n    }\n}"),
        ("src/lib.rs", "pub use crate::server::Server;"),
        ("tests/a.rs", "use crate::common::Server;"),
    ] {
        assert_lines(path, text, &[]);
    }
}

#[test]
fn kernel_and_clock_stay_where_they_belong() {
    let text = "let a = Instant::now();\nstart.elapsed();\nTcpStream::connect(a);";
    assert_lines("src/tls/session.rs", text, &[1, 2, 3]);
    assert_lines("src/reactor/mod.rs", text, &[]);
    assert_lines("src/buf/pool.rs", "#[cfg(test)]\nfn f() {\n    Instant::now();\n}", &[]);
    let text = "mio::Poll;\nlibc::read;\nio_uring::IoUring;\n// mio::Poll\nmy_mio::x;";
    assert_lines("src/conn/mod.rs", text, &[1, 2, 3]);
    assert_lines("src/driver/ready/mod.rs", text, &[2, 3]);
    assert_lines("src/driver/uring/mod.rs", text, &[1]);
    assert_lines("src/sys/socket.rs", text, &[1, 3]);
    assert_lines("benches/a.rs", text, &[]);
}

#[test]
fn unsafe_code_is_in_its_place_with_its_reason() {
    let bare = "fn f() {\n    unsafe { g() }\n}\n\n\n\nunsafe impl Send for A {}";
    assert_lines("src/sys/a.rs", bare, &[2, 7]);
    assert_lines("src/conn/a.rs", bare, &[2, 2, 7, 7]);
    assert_lines("benches/a.rs", bare, &[2, 7]);
    assert_lines("src/sys/a.rs", "// SAFETY:\nunsafe { g() }", &[2]);
    let good = "// SAFETY: g is.\n// More.\n// More.\n// More.\nunsafe { g() }\n\n\n
        /// # Safety\n/// One.\n/// Two.\n/// Three.\n#[inline]\nunsafe fn f() {}";
    assert_lines("src/sys/a.rs", good, &[]);
    assert_lines("src/lib.rs", "#![deny(unsafe_code)]", &[]);
}

#[test]
fn features_choose_modules_not_statements() {
    let inside = "fn f() {\n    #[cfg(all(unix, feature = \"tls\"))]\n    g();\n}";
    assert_lines("src/addr.rs", inside, &[2]);
    assert_lines("src/addr.rs", "fn f() {\n    cfg!(feature = \"tls\")\n}", &[2]);
    assert_lines("src/addr.rs", "#[cfg(feature = \"tls\")]\nfn f() {\n    cfg!(unix)\n}", &[]);
}

#[test]
fn panics_prints_and_loose_ends_are_found() {
    let proven = "a.unwrap(); // never empty\n\n\n// Never empty.\nb\n    .expect(\"x\");";
    assert_lines("src/addr.rs", proven, &[]);
    assert_lines("src/addr.rs", "/// Doc.\nfn f() { a.unwrap() }\n\na.expect(b);", &[2, 4]);
    assert_lines("src/addr.rs", "#[cfg(test)]\nmod t {\n    fn f() { a.unwrap() }\n}", &[]);
    assert_lines("src/addr/tests.rs", "fn f() { a.unwrap() }", &[]);
    assert_lines("src/addr.rs", "println!();\ndbg!(a);\nlog::info!();", &[1, 2]);
    assert_lines("tests/a.rs", "todo!();\nunimplemented!();\nprintln!();", &[1, 2]);
    assert_lines("src/addr.rs", "static mut A: u8 = 0;\nfn f(a: &'static mut u8) {}", &[1]);
}

#[test]
fn a_test_that_sleeps_says_why() {
    assert_lines("tests/a.rs", "thread::sleep(a);\n\n// sleep-ok:\nthread::sleep(a);", &[1, 4]);
    assert_lines("tests/a.rs", "// sleep-ok: the peer is slow on purpose\nthread::sleep(a);", &[]);
    assert_lines("examples/a.rs", "thread::sleep(a);", &[]);
}
