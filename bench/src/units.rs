//! Durations and sizes as people write them: `500ms`, `10s`, `2m`; `64`, `16KiB`, `1MiB`.

use std::time::Duration;

/// A duration with its unit: `250us`, `500ms`, `1.5s`, `2m`, `1h`.
///
/// # Errors
/// What is not a number with a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" => return Err(format!("`{text}` has no unit: such as 500ms, 10s or 2m")),
        _ => return Err(format!("`{unit}` is no unit of time: us, ms, s, m and h are")),
    };
    let number: f64 = number.parse().map_err(|_| not_a_duration(text))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| not_a_duration(text))
}

fn not_a_duration(text: &str) -> String {
    format!("`{text}` is no duration: such as 500ms, 10s or 2m")
}

/// A number of bytes: `64`, `64B`, `16KiB`, `1MiB`, `1GiB`. `k` and `M` would leave open what is
/// meant, so they are refused.
///
/// # Errors
/// What is not a whole number of bytes.
pub fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let factor: usize = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("`{unit}` is no unit of size: B, KiB, MiB and GiB are")),
    };
    let refused = || format!("`{text}` is no size: such as 64, 16KiB or 1MiB");
    let number: usize = number.parse().map_err(|_| refused())?;
    number.checked_mul(factor).ok_or_else(refused)
}

fn split(text: &str) -> (&str, &str) {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A duration in microseconds with the unit that suits it.
pub fn show_us(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 10_000.0 => format!("{:.1} ms", us / 1e3),
        us if us >= 1_000.0 => format!("{:.2} ms", us / 1e3),
        us if us >= 100.0 => format!("{us:.0} us"),
        us => format!("{us:.1} us"),
    }
}

/// A whole number with commas: 1,234,567.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes with the unit that suits it.
pub fn show_bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        for wrong in ["", "10", "s", "-1s", "1.2.3s", "10 parsecs", "1e9h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_whole_bytes() {
        assert_eq!(size("64"), Ok(64));
        assert_eq!(size("16KiB"), Ok(16_384));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        for wrong in ["", "1k", "1.5KiB", "-1", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_shown_with_units_and_commas() {
        assert_eq!(show_us(12.34), "12.3 us");
        assert_eq!(show_us(1234.0), "1.23 ms");
        assert_eq!(show_us(2_500_000.0), "2.50 s");
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(999), "999");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_bytes(512.0), "512 B");
        assert_eq!(show_bytes(1536.0), "1.5 KiB");
    }
}
