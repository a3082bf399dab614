//! The codec vectors: all of them with the codecs set to do as netty does, and all but those that
//! docs/codecs.md lists with the codecs' own settings.

#[path = "../examples/codec_vectors/vectors.rs"]
mod vectors;

use vectors::{Cut, Vector};

/// The vectors from which the codecs deviate unless told to do as netty: by their place in the
/// file, with the reason. Each is in docs/codecs.md with its note.
const DEVIATIONS: [(usize, &str); 11] = [
    (17, "a length beyond 64 bits is too long, not negative"),
    (79, "a CR at the end of a chunk is not content before its successor is known"),
    (91, "as 79"),
    (93, "the delimiter that begins first wins, also when it is cut apart"),
    (95, "the beginning of a delimiter is kept while a frame is dropped"),
    (97, "the longest delimiter wins, also when it is cut apart"),
    (98, "the longest delimiter wins, not the one listed first"),
    (104, "as 98"),
    (113, "as 95"),
    (118, "a frame with its delimiter waits until that is known whole"),
    (120, "as 95"),
];

fn all() -> Vec<Vector> {
    let vectors = vectors::parse(include_str!("vectors/codec_vectors.json")).unwrap();
    assert!(vectors.len() >= 131, "only {} vectors", vectors.len());
    vectors
}

fn deviates(number: usize) -> bool {
    DEVIATIONS.iter().any(|(deviation, _)| *deviation == number)
}

#[test]
fn compatible_codecs_do_as_netty_does() {
    for (number, vector) in all().iter().enumerate() {
        let cuts: &[Cut] = match vector.depends_on_chunks() {
            true => &[Cut::AsGiven],
            false => &[Cut::Whole, Cut::AsGiven, Cut::Bytes],
        };
        for &cut in cuts {
            let found = vector.run(vector.codec(true).unwrap(), cut);
            assert_eq!(found, vector.expected, "vector {number}, {cut:?}: {}", vector.note);
        }
    }
}

#[test]
fn codecs_do_as_the_vectors_say_but_for_the_listed_deviations() {
    for (number, vector) in all().iter().enumerate() {
        let found = vector.run(vector.codec(false).unwrap(), Cut::AsGiven);
        let differs = found != vector.expected;
        assert_eq!(differs, deviates(number), "vector {number}: {found:?} {}", vector.note);
    }
}

#[test]
fn what_codecs_find_does_not_depend_on_how_the_input_is_cut() {
    for (number, vector) in all().iter().enumerate() {
        let whole = vector.run(vector.codec(false).unwrap(), Cut::Whole);
        for cut in [Cut::AsGiven, Cut::Bytes] {
            let found = vector.run(vector.codec(false).unwrap(), cut);
            assert_eq!(found, whole, "vector {number}, {cut:?}: {}", vector.note);
        }
    }
}

#[test]
fn names_that_are_not_known_are_errors() {
    let fixed = |config: &str| {
        let rest = r#""chunks_hex": [], "expect": [], "note": """#;
        vectors::parse(&format!(r#"[{{"codec": "fixed", "config": {{{config}}}, {rest}}}]"#))
    };
    fixed(r#""frame_length": 3"#).unwrap();
    let refused = |config| fixed(config).err().expect("an error");
    assert!(refused(r#""frame_length": 3, "colour": 1"#).contains("colour"));
    assert!(refused("").contains("frame_length"));
    assert!(refused(r#""frame_length": 0"#).contains("frame_length"));
}
