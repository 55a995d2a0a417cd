//! Unified differences of two values, as messages about forbidden changes show them.
//!
//! Source: `k8s.io/apimachinery/pkg/util/diff`, which compares indented JSON with go-difflib; that
//! is Python's `SequenceMatcher`, whose choice of what stayed the same is followed here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::internal;

/// How many unchanged lines stand around a change.
const CONTEXT: usize = 3;
/// In longer texts, lines that are more frequent than one percent do not begin a match.
const POPULAR_MIN: usize = 200;

/// The difference between two values that upstream holds in its internal type of that name.
pub fn unified(name: &str, old: &Value, new: &Value) -> String {
    let (old, new) = (internal::pretty(name, old), internal::pretty(name, new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut out = String::new();
    for group in groups(steps(&old, &new)) {
        write_group(&mut out, &group, &old, &new);
    }
    out
}

/// A run of lines in one text and what it became in the other.
#[derive(Clone, Copy)]
struct Step {
    same: bool,
    /// Lines of the old text: from, to.
    old: (usize, usize),
    /// Lines of the new text: from, to.
    new: (usize, usize),
}

/// Where two texts are the same: begin in the old one, in the new one, and length.
type Block = (usize, usize, usize);

struct Matcher<'a> {
    old: &'a [&'a str],
    new: &'a [&'a str],
    /// Where each line of the new text is, popular ones left out.
    places: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Matcher<'a> {
    fn new(old: &'a [&'a str], new: &'a [&'a str]) -> Self {
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, line) in new.iter().enumerate() {
            places.entry(line).or_default().push(index);
        }
        if new.len() >= POPULAR_MIN {
            places.retain(|_, indexes| indexes.len() <= new.len() / 100 + 1);
        }
        Matcher { old, new, places }
    }

    /// The longest block within bounds; of several, the first.
    fn longest(&self, (old_from, old_to): (usize, usize), (new_from, new_to): (usize, usize)) -> Block {
        let mut best: Block = (old_from, new_from, 0);
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        for i in old_from..old_to {
            let mut next = BTreeMap::new();
            let places = self.places.get(self.old[i]).map_or(&[][..], Vec::as_slice);
            for &j in places.iter().filter(|j| (new_from..new_to).contains(j)) {
                let before = j.checked_sub(1).and_then(|before| lengths.get(&before));
                let length = before.copied().unwrap_or(0) + 1;
                next.insert(j, length);
                if length > best.2 {
                    best = (i + 1 - length, j + 1 - length, length);
                }
            }
            lengths = next;
        }
        while best.0 > old_from && best.1 > new_from && self.old[best.0 - 1] == self.new[best.1 - 1] {
            best = (best.0 - 1, best.1 - 1, best.2 + 1);
        }
        while best.0 + best.2 < old_to
            && best.1 + best.2 < new_to
            && self.old[best.0 + best.2] == self.new[best.1 + best.2]
        {
            best.2 += 1;
        }
        best
    }

    /// All blocks in order. The work list replaces a recursion whose depth the texts would decide.
    fn blocks(&self) -> Vec<Block> {
        let mut found = Vec::new();
        let mut open = vec![((0, self.old.len()), (0, self.new.len()))];
        while let Some((old, new)) = open.pop() {
            let (i, j, length) = self.longest(old, new);
            if length == 0 {
                continue;
            }
            found.push((i, j, length));
            open.push(((old.0, i), (new.0, j)));
            open.push(((i + length, old.1), (j + length, new.1)));
        }
        found.sort_unstable();
        let mut joined: Vec<Block> = Vec::new();
        for block in found {
            match joined.last_mut() {
                Some(last) if last.0 + last.2 == block.0 && last.1 + last.2 == block.1 => last.2 += block.2,
                _ => joined.push(block),
            }
        }
        joined
    }
}

fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut i, mut j) = (0, 0);
    let mut blocks = Matcher::new(old, new).blocks();
    blocks.push((old.len(), new.len(), 0));
    for (old_at, new_at, length) in blocks {
        if i < old_at || j < new_at {
            steps.push(Step { same: false, old: (i, old_at), new: (j, new_at) });
        }
        (i, j) = (old_at + length, new_at + length);
        if length > 0 {
            steps.push(Step { same: true, old: (old_at, i), new: (new_at, j) });
        }
    }
    steps
}

/// Changes that are near to one another, with some lines around them.
fn groups(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    let head = |step: &mut Step| {
        step.old.0 = step.old.0.max(step.old.1.saturating_sub(CONTEXT));
        step.new.0 = step.new.0.max(step.new.1.saturating_sub(CONTEXT));
    };
    let tail = |step: &mut Step| {
        step.old.1 = step.old.1.min(step.old.0 + CONTEXT);
        step.new.1 = step.new.1.min(step.new.0 + CONTEXT);
    };
    steps.first_mut().filter(|step| step.same).into_iter().for_each(head);
    steps.last_mut().filter(|step| step.same).into_iter().for_each(tail);
    let mut groups = Vec::new();
    let mut group = Vec::new();
    for mut step in steps {
        if step.same && step.old.1 - step.old.0 > 2 * CONTEXT {
            let mut end = step;
            tail(&mut end);
            group.push(end);
            groups.push(std::mem::take(&mut group));
            head(&mut step);
        }
        group.push(step);
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|step| !step.same));
    groups
}

fn write_group(out: &mut String, group: &[Step], old: &[&str], new: &[&str]) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let range = |from: usize, to: usize| match to - from {
        1 => (from + 1).to_string(),
        0 => format!("{from},0"),
        length => format!("{},{length}", from + 1),
    };
    *out += &format!("@@ -{} +{} @@\n", range(first.old.0, last.old.1), range(first.new.0, last.new.1));
    let mut lines = |sign: char, lines: &[&str]| {
        lines.iter().for_each(|line| *out += &format!("{sign}{line}\n"));
    };
    for step in group {
        if step.same {
            lines(' ', &old[step.old.0..step.old.1]);
        } else {
            lines('-', &old[step.old.0..step.old.1]);
            lines('+', &new[step.new.0..step.new.1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_changes_with_context() {
        let old = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let mut new = old.clone();
        new["accessModes"] = json!(["ReadOnlyMany"]);
        expect![[r#"
            @@ -1,6 +1,6 @@
             {
              "AccessModes": [
            -  "ReadWriteOnce"
            +  "ReadOnlyMany"
              ],
              "Selector": null,
              "Resources": {
        "#]]
        .assert_eq(&unified("PersistentVolumeClaimSpec", &old, &new));
    }
}
