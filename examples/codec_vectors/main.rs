//! Runs a file of codec vectors: each whole, as it is cut, and one byte at a time.
//!
//! ```sh
//! cargo run --example codec_vectors -- tests/vectors/codec_vectors.json
//! ```
//!
//! The codecs are set to do as netty does, which the vectors were made with: see docs/codecs.md. A
//! vector whose note says "depends on chunks" is run as it is cut only. Exit code 1 if any vector
//! fails, or cannot be understood.

mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vectors::{Cut, Vector};

#[derive(Parser)]
struct Options {
    /// The file: a JSON list of vectors.
    file: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: {error}", options.file.display());
            ExitCode::FAILURE
        }
    }
}

/// Answers how many vectors failed.
fn run(options: &Options) -> Result<usize, String> {
    let text = std::fs::read_to_string(&options.file).map_err(|error| error.to_string())?;
    let vectors = vectors::parse(&text)?;
    let mut failed = 0;
    for (number, vector) in vectors.iter().enumerate() {
        failed += usize::from(!passes(number, vector)?);
    }
    println!("{} passed, {failed} failed", vectors.len() - failed);
    Ok(failed)
}

fn passes(number: usize, vector: &Vector) -> Result<bool, String> {
    let cuts: &[Cut] = match vector.depends_on_chunks() {
        true => &[Cut::AsGiven],
        false => &[Cut::Whole, Cut::AsGiven, Cut::Bytes],
    };
    let mut passes = true;
    for &cut in cuts {
        let found = vector.run(vector.codec(true)?, cut);
        if found != vector.expected {
            passes = false;
            println!("vector {number}, cut {cut:?}: {}", vector.note);
            println!("  expected {:?}\n  found    {found:?}", vector.expected);
        }
    }
    Ok(passes)
}
