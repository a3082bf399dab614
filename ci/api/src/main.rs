//! Prints the public API that is in a file of rustdoc's JSON, an item a line, sorted. What is hidden
//! from the documentation is not in the file. Of the traits that the compiler implements by itself
//! only Send and Sync are told: the others say nothing that a user of this library builds on, and
//! compilers add to them.

use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;

use public_api::{Builder, PublicApi};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: tightloop-api FILE");
        return ExitCode::from(2);
    };
    let api = match Builder::from_rustdoc_json(path).omit_blanket_impls(true).build() {
        Ok(api) => api,
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!(
                "Compilers change the format: is there a newer `public-api` for ci/api/Cargo.toml?"
            );
            return ExitCode::FAILURE;
        }
    };
    match print(&api) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the listing cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(api: &PublicApi) -> std::io::Result<()> {
    let items: Vec<_> = api.items().map(|item| (item, item.to_string())).collect();
    let implementations: HashSet<_> = items
        .iter()
        .filter(|(_, text)| of_trait(text).is_some())
        .map(|(item, _)| item.id())
        .collect();
    let mut output = std::io::stdout().lock();
    for (item, text) in &items {
        let is_told = match item.parent_id() {
            // That the trait is implemented says which functions there are.
            Some(parent) if implementations.contains(&parent) => !text.starts_with("pub fn "),
            _ => !of_trait(text).is_some_and(|name| BY_ITSELF.contains(&name)),
        };
        if is_told {
            writeln!(output, "{text}")?;
        }
    }
    output.flush()
}

const BY_ITSELF: [&str; 6] = [
    "core::marker::Freeze",
    "core::marker::StructuralPartialEq",
    "core::marker::Unpin",
    "core::marker::UnsafeUnpin",
    "core::panic::unwind_safe::RefUnwindSafe",
    "core::panic::unwind_safe::UnwindSafe",
];

/// The trait in `impl<T> Trait for Type` and in `impl<T> !Trait for Type`, with its arguments.
fn of_trait(item: &str) -> Option<&str> {
    let (head, _) = item.strip_prefix("impl")?.split_once(" for ")?;
    head.rsplit([' ', '!']).next()
}
