//! Counts given as a number or as a share of a total.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a share that is not whole is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// To the next higher count.
    Up,
    /// To the next lower count.
    Down,
}

/// The count that `value` means out of `total`; `None` for text that is not a percentage.
pub fn resolve(value: &IntOrString, total: i32, round: Round) -> Option<i32> {
    match value {
        IntOrString::Int(count) => Some(*count),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let hundredths = percent * i64::from(total);
            let count = match round {
                Round::Up => hundredths.div_euclid(100) + i64::from(hundredths.rem_euclid(100) > 0),
                Round::Down => hundredths.div_euclid(100),
            };
            i32::try_from(count).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let percent = |text: &str| IntOrString::String(text.into());
        assert_eq!(resolve(&IntOrString::Int(3), 10, Round::Up), Some(3));
        assert_eq!(resolve(&percent("25%"), 10, Round::Up), Some(3));
        assert_eq!(resolve(&percent("25%"), 10, Round::Down), Some(2));
        assert_eq!(resolve(&percent("100%"), 7, Round::Up), Some(7));
        assert_eq!(resolve(&percent("many"), 7, Round::Up), None);
    }
}
