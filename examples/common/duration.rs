//! Times on the command line: `250ms`, `1s`, `2.5s`.

use std::time::Duration;

/// Some thirty years: what is longer would not fit into the system's clock.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// For clap's `value_parser`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit_seconds) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').ok_or("it must end in s or ms")?, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| "not a number")?;
    match Duration::try_from_secs_f64(number * unit_seconds) {
        Ok(duration) if (Duration::from_millis(1)..=LONGEST).contains(&duration) => Ok(duration),
        _ => Err("it must be from 1ms to 1e9s".to_owned()),
    }
}
