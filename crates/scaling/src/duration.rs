//! Durations as Karpenter's API writes them.

use std::time::Duration;

/// Parses a Go duration such as `1h30m` or `500ms`; `None` for `Never` and anything unreadable.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let number: f64 = rest[..number_end].parse().ok()?;
        rest = &rest[number_end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, expected) in [
            ("0s", Some(0.0)),
            ("0", Some(0.0)),
            ("30s", Some(30.0)),
            ("1h30m", Some(5400.0)),
            ("720h", Some(2_592_000.0)),
            ("1.5s", Some(1.5)),
            ("250ms", Some(0.25)),
            ("Never", None),
            ("", None),
            ("5", None),
            ("h", None),
        ] {
            assert_eq!(parse(text).map(|found| found.as_secs_f64()), expected, "{text}");
        }
    }
}
