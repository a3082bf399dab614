//! Sizes on the command line and in CONFIG SET: `100mb`, `1gb`, `65536`, as Redis writes them.

/// For clap's `value_parser`.
pub fn parse(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &*text[digits..].to_ascii_lowercase() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err("its unit must be b, k, kb, m, mb, g or gb".to_owned()),
    };
    let number = text[..digits].parse::<usize>().map_err(|_| "not a number")?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_read_as_redis_reads_them() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("100mb"), Ok(100 << 20));
        assert_eq!(parse("2K"), Ok(2000));
        assert!(
            ["", "mb", "1tb", "-1", "1.5gb", "99999999999gb"].map(parse).iter().all(Result::is_err)
        );
    }
}
