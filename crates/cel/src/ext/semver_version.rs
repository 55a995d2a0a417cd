//! Semantic versions by the rules, and with the error texts, of `github.com/blang/semver/v4`.

use std::cmp::Ordering;

use base::gotext::quote;

/// A version. Build metadata is checked, and has no part in comparisons.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pre: Vec<PreRelease>,
}

/// A part of a pre-release: numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PreRelease {
    Number(u64),
    Word(String),
}

impl Version {
    /// `semver.Parse`.
    pub fn parse(text: &str) -> Result<Version, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts[..] else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let major = number("Major number", "major number", major)?;
        let minor = number("Minor number", "minor number", minor)?;
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, pre) = rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
        let patch = number("Patch number", "patch number", patch)?;
        let pre = pre.map_or(Ok(Vec::new()), |pre| pre.split('.').map(PreRelease::parse).collect())?;
        for part in build.into_iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !part.bytes().all(alphanumeric) {
                return Err(format!("Invalid character(s) found in build meta data {}", quote(part)));
            }
        }
        Ok(Version { major, minor, patch, pre })
    }

    /// Kubernetes' `normalizeAndParse`: without the `v`, with missing parts as 0, without leading zeros.
    pub fn parse_normalized(text: &str) -> Result<Version, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(without_leading_zeros).collect();
        if parts.len() < 3 {
            if parts.last().is_some_and(|part| part.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Version::parse(&parts.join("."))
    }

    /// The order of precedence.
    pub fn compare(&self, other: &Version) -> Ordering {
        let numbers = |v: &Version| (v.major, v.minor, v.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => self.pre.cmp(&other.pre),
        })
    }
}

impl PreRelease {
    fn parse(text: &str) -> Result<PreRelease, String> {
        if text.is_empty() {
            return Err("Prerelease is empty".to_owned());
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            if has_leading_zero(text) {
                return Err(format!(
                    "Numeric PreRelease version must not contain leading zeroes {}",
                    quote(text)
                ));
            }
            return parse_uint(text).map(PreRelease::Number);
        }
        if text.bytes().all(alphanumeric) {
            return Ok(PreRelease::Word(text.to_owned()));
        }
        Err(format!("Invalid character(s) found in prerelease {}", quote(text)))
    }
}

fn number(subject: &str, object: &str, text: &str) -> Result<u64, String> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {object} {}", quote(text)));
    }
    if has_leading_zero(text) {
        return Err(format!("{subject} must not contain leading zeroes {}", quote(text)));
    }
    parse_uint(text)
}

/// `strconv.ParseUint` of digits.
fn parse_uint(digits: &str) -> Result<u64, String> {
    let why = if digits.is_empty() { "invalid syntax" } else { "value out of range" };
    digits.parse().map_err(|_| format!("strconv.ParseUint: parsing {}: {why}", quote(digits)))
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0')
}

fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

/// `01` is `1`; `00` is `0`; `0-rc` keeps its zero.
fn without_leading_zeros(part: &str) -> String {
    if part.len() <= 1 {
        return part.to_owned();
    }
    let trimmed = part.trim_start_matches('0');
    if trimmed.starts_with(|c: char| c.is_ascii_digit()) { trimmed.to_owned() } else { format!("0{trimmed}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence() {
        let ascending = [
            "0.1.0-1",
            "0.1.0-2",
            "0.1.0-10",
            "0.1.0-a",
            "0.1.0-a.1",
            "0.1.0-b",
            "0.1.0",
            "0.2.0",
            "1.0.0+b",
            "1.0.1",
        ];
        let versions: Vec<Version> = ascending.iter().map(|text| Version::parse(text).unwrap()).collect();
        assert!(versions.windows(2).all(|pair| pair[0].compare(&pair[1]) == Ordering::Less));
        let with_build = Version::parse("1.0.0").unwrap();
        assert_eq!(with_build.compare(&versions[8]), Ordering::Equal);
    }

    #[test]
    fn what_is_wrong() {
        for (text, expected) in [
            ("", "Version string empty"),
            ("1.2", "No Major.Minor.Patch elements found"),
            ("v1.2.3", r#"Invalid character(s) found in major number "v1""#),
            ("01.2.3", r#"Major number must not contain leading zeroes "01""#),
            ("1.2.3.4", r#"Invalid character(s) found in patch number "3.4""#),
            ("1.2.", r#"strconv.ParseUint: parsing "": invalid syntax"#),
            (
                "1.2.99999999999999999999",
                r#"strconv.ParseUint: parsing "99999999999999999999": value out of range"#,
            ),
            ("1.2.3-", "Prerelease is empty"),
            ("1.2.3-01", r#"Numeric PreRelease version must not contain leading zeroes "01""#),
            ("1.2.3-a_b", r#"Invalid character(s) found in prerelease "a_b""#),
            ("1.2.3+", "Build meta data is empty"),
            ("1.2.3+a_b", r#"Invalid character(s) found in build meta data "a_b""#),
        ] {
            assert_eq!(Version::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn normalization() {
        let numbers = |text| Version::parse_normalized(text).map(|v| (v.major, v.minor, v.patch));
        assert_eq!(numbers("v1"), Ok((1, 0, 0)));
        assert_eq!(numbers("01.002.0003-rc"), Ok((1, 2, 3)));
        assert_eq!(numbers("1.00.0-a"), Ok((1, 0, 0)));
        assert!(numbers("1.2-rc").is_err_and(|why| why.starts_with("short version")));
        assert!(numbers("vv1").is_err());
    }
}
