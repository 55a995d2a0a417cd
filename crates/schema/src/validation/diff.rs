//! Unified differences of two values, as messages about forbidden changes show them.

use serde_json::{Serializer, Value, ser::PrettyFormatter};

/// How many unchanged lines stand around a change.
const CONTEXT: usize = 3;

/// The difference between two values as JSON, in hunks of a unified diff.
///
/// Upstream shows its internal types here; we show the object as the user wrote it.
pub fn unified(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    hunks(&script(&old, &new))
}

fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b" "));
    // Writing JSON into memory cannot fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

/// One line of an edit script: ` `, `-` or `+`, and the text.
type Line<'a> = (char, &'a str);

/// The lines of both texts, the common ones once, by longest common subsequence.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let back = old[front..].iter().rev().zip(new[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[front..old.len() - back], &new[front..new.len() - back]);
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut lines: Vec<Line<'a>> = old[..front].iter().map(|line| (' ', *line)).collect();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j >= b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    lines.extend(old[old.len() - back..].iter().map(|line| (' ', *line)));
    lines
}

fn hunks(lines: &[Line<'_>]) -> String {
    let mut out = String::new();
    let changed: Vec<usize> = lines.iter().enumerate().filter(|(_, l)| l.0 != ' ').map(|(i, _)| i).collect();
    let mut rest = &changed[..];
    while let Some(&first) = rest.first() {
        let together = rest.windows(2).take_while(|pair| pair[1] - pair[0] <= 2 * CONTEXT + 1).count();
        let last = rest[together];
        rest = &rest[together + 1..];
        let (from, to) = (first.saturating_sub(CONTEXT), (last + CONTEXT + 1).min(lines.len()));
        let count =
            |range: &[Line<'_>], sign: char| range.iter().filter(|l| l.0 == ' ' || l.0 == sign).count();
        let side = |sign| {
            let (start, length) = (count(&lines[..from], sign), count(&lines[from..to], sign));
            if length == 1 {
                format!("{}", start + 1)
            } else {
                format!("{},{length}", start + usize::from(length > 0))
            }
        };
        out += &format!("@@ -{} +{} @@\n", side('-'), side('+'));
        for (sign, text) in &lines[from..to] {
            out += &format!("{sign}{text}\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_changes_with_context() {
        let old = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6});
        let mut new = old.clone();
        new["e"] = json!(50);
        expect![[r#"
            @@ -3,6 +3,6 @@
              "b": 2,
              "c": 3,
              "d": 4,
            - "e": 5,
            + "e": 50,
              "f": 6
             }
        "#]]
        .assert_eq(&unified(&old, &new));
    }
}
