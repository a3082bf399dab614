//! Times on the command line: `250ms`, `1s`, `2.5s`.

use std::time::Duration;

/// For clap's `value_parser`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit_seconds) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').ok_or("it must end in s or ms")?, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| "not a number")?;
    match Duration::try_from_secs_f64(number * unit_seconds) {
        Ok(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        _ => Err("it must be at least 1ms".to_owned()),
    }
}
