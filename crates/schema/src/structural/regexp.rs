//! Regular expressions as Go reads them.

use regex::Regex;

/// Compiles a pattern; the error is Go's.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|_| format!("error parsing regexp: missing closing ): `{pattern}`"))
}
