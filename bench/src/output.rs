//! What is shown on standard output.

use std::io::{self, ErrorKind, Write};

/// Shows a text. Whoever has closed the output, as `head` does, has seen enough: that is no error.
///
/// # Errors
/// Any other reason why it cannot be written.
pub fn show(text: &str) -> Result<(), String> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output cannot be written to: {error}"))
        }
        _ => Ok(()),
    }
}
