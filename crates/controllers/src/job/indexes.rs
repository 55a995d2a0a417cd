//! Sets of completion indexes and their text in a Job's status, e.g. `1,3-5,7`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

/// Annotation and label that hold a pod's completion index.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The completion index of a pod.
pub fn of_pod(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(COMPLETION_INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// Reads the text of a status. Parts that make no sense, or indexes not below `completions`, are
/// left out.
pub fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first..=last.min(completions - 1));
        }
    }
    indexes
}

/// The text for a status: runs of three and more, and pairs, are written as ranges with a dash or
/// a comma as upstream does.
pub fn format(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for &index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let texts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_sets_agree() {
        for (text, indexes) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0,1", vec![0, 1]),
            ("0-2", vec![0, 1, 2]),
            ("1,3-5,7,8", vec![1, 3, 4, 5, 7, 8]),
        ] {
            let set: BTreeSet<i32> = indexes.into_iter().collect();
            assert_eq!(format(&set), text);
            assert_eq!(parse(text, 100), set);
        }
        assert_eq!(parse("3-9", 5), BTreeSet::from([3, 4]));
    }
}
