//! The policy of a namespace: what its labels say about levels and versions.
//!
//! Source: `k8s.io/pod-security-admission/api`.

use std::collections::BTreeMap;
use std::fmt;

use schema::field::{Error, ErrorList, Path};

/// How much pods may do, from everything to very little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    const ALL: [(&'static str, Level); 3] =
        [("privileged", Self::Privileged), ("baseline", Self::Baseline), ("restricted", Self::Restricted)];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, level)| *level)
    }
}

/// The minor version of Kubernetes whose rules apply; `None` is the latest.
pub(super) type Version = Option<u64>;

/// A level as of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl LevelVersion {
    const PRIVILEGED: Self = Self { level: Level::Privileged, version: None };
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::ALL.iter().find(|(_, level)| *level == self.level).map_or("", |(name, _)| name);
        match self.version {
            None => write!(f, "{name}:latest"),
            Some(minor) => write!(f, "{name}:v1.{minor}"),
        }
    }
}

/// What is refused, written into the audit log, and warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    /// Whether nothing is ever said about any pod.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }

    /// The policy that labels ask for, and what is wrong with them. There always is a policy: a level
    /// that cannot be read is enforced as restricted, and not warned of.
    pub fn of(labels: &BTreeMap<String, String>) -> (Self, ErrorList) {
        let mut reader = Reader { labels, errors: ErrorList::new() };
        let mut policy = Self {
            enforce: LevelVersion::PRIVILEGED,
            audit: LevelVersion::PRIVILEGED,
            warn: LevelVersion::PRIVILEGED,
        };
        let enforce = reader.level("enforce");
        policy.enforce.level = match enforce {
            Given::Nothing => Level::Privileged,
            Given::Good(level) => level,
            Given::Bad => Level::Restricted,
        };
        policy.enforce.version = reader.version("enforce-version").flatten();
        if let Given::Good(level) = reader.level("audit") {
            policy.audit.level = level;
        }
        policy.audit.version = reader.version("audit-version").flatten();
        let warn = reader.level("warn");
        if let Given::Good(level) = warn {
            policy.warn.level = level;
        }
        let warn_version = reader.version("warn-version");
        policy.warn.version = warn_version.flatten();
        // What is enforced is also warned of, unless the labels say otherwise.
        if matches!(warn, Given::Nothing)
            && matches!(enforce, Given::Good(_))
            && policy.enforce.level > policy.warn.level
        {
            policy.warn.level = policy.enforce.level;
            if warn_version.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, reader.errors)
    }
}

/// What a label holds.
#[derive(Clone, Copy)]
enum Given {
    Nothing,
    Good(Level),
    Bad,
}

struct Reader<'a> {
    labels: &'a BTreeMap<String, String>,
    errors: ErrorList,
}

impl Reader<'_> {
    fn get(&self, mode: &str) -> Option<(String, String)> {
        let label = format!("pod-security.kubernetes.io/{mode}");
        self.labels.get(&label).map(|value| (label, value.clone()))
    }

    fn refuse(&mut self, label: &str, value: &str, why: &str) {
        let path = Path::new("metadata").child("labels").key(label);
        self.errors.push(Error::invalid(&path, value, why));
    }

    fn level(&mut self, mode: &str) -> Given {
        let Some((label, value)) = self.get(mode) else { return Given::Nothing };
        match Level::parse(&value) {
            Some(level) => Given::Good(level),
            None => {
                self.refuse(&label, &value, "must be one of privileged, baseline, restricted");
                Given::Bad
            }
        }
    }

    /// `None` where there is no such label; the latest version where it makes no sense.
    fn version(&mut self, mode: &str) -> Option<Version> {
        let (label, value) = self.get(mode)?;
        if value == "latest" {
            return Some(None);
        }
        let digits = value.strip_prefix("v1.").unwrap_or_default();
        let plain =
            digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        match digits.parse::<u64>() {
            Ok(minor) if plain && i64::try_from(minor).is_ok() => Some(Some(minor)),
            _ => {
                self.refuse(&label, &value, "must be \"latest\" or \"v1.x\"");
                Some(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(labels: &[(&str, &str)]) -> (String, usize) {
        let labels = labels
            .iter()
            .map(|(mode, value)| (format!("pod-security.kubernetes.io/{mode}"), (*value).to_owned()))
            .collect();
        let (policy, errors) = Policy::of(&labels);
        (format!("{} {} {}", policy.enforce, policy.audit, policy.warn), errors.causes().len())
    }

    #[test]
    fn labels_make_a_policy() {
        assert_eq!(policy(&[]), ("privileged:latest privileged:latest privileged:latest".into(), 0));
        assert_eq!(
            policy(&[("enforce", "baseline"), ("enforce-version", "v1.25")]),
            ("baseline:v1.25 privileged:latest baseline:v1.25".into(), 0)
        );
        assert_eq!(
            policy(&[("enforce", "none"), ("warn", "odd"), ("audit-version", "v1.08")]),
            ("restricted:latest privileged:latest privileged:latest".into(), 3)
        );
    }
}
