use std::collections::BTreeMap;

use bytes::Bytes;

use super::Random;
use crate::{Committed, Compare, KeyValue, Op, Revision, Store, StoreError, Write};

/// What the store should be: a map, and a copy of it per revision.
#[derive(Default)]
struct Model {
    map: BTreeMap<String, KeyValue>,
    past: Vec<BTreeMap<String, KeyValue>>,
    oldest: Revision,
}

/// Random writes, reads at random revisions and compactions do on the store what they do on a plain map.
pub async fn agrees_with_a_map(store: &dyn Store, seed: u64, steps: usize) {
    let mut random = Random(seed);
    let mut model = Model { past: vec![BTreeMap::new()], ..Model::default() };
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        match random.below(10) {
            0..6 => model.write(store, &mut random, &context).await,
            6..9 => model.read(store, &mut random, &context).await,
            _ => model.compact(store, &mut random, &context).await,
        }
    }
}

impl Model {
    fn revision(&self) -> Revision {
        self.past.len() as Revision - 1
    }

    async fn write(&mut self, store: &dyn Store, random: &mut Random, context: &str) {
        let key = random_key(random);
        let current = self.map.get(&key).cloned();
        let compare = match random.below(5) {
            0 => Compare::Absent,
            1 => Compare::Present,
            2 => Compare::ModRevision(random.below(self.revision() + 2)),
            3 => Compare::ModRevision(current.as_ref().map_or(0, |kv| kv.mod_revision)),
            _ => Compare::Any,
        };
        let holds = match compare {
            Compare::Any => true,
            Compare::Absent => current.is_none(),
            Compare::Present => current.is_some(),
            Compare::ModRevision(revision) => current.as_ref().is_some_and(|kv| kv.mod_revision == revision),
        };
        let delete = random.below(4) == 0;
        let value = Bytes::from(format!("{}", random.below(1000)));
        let op = if delete { Op::Delete } else { Op::Put(value.clone()) };
        let answer = store.commit(Write { key: key.as_str().into(), compare, op }).await;
        if !holds || (delete && current.is_none()) {
            assert!(
                matches!(&answer, Err(StoreError::Conflict { current: shown }) if *shown == current),
                "{context}: {answer:?} instead of a conflict with {current:?}"
            );
            return;
        }
        let revision = self.revision() + 1;
        let create_revision = current.as_ref().map_or(revision, |kv| kv.create_revision);
        if delete {
            self.map.remove(&key);
        } else {
            let kv = KeyValue { key: key.as_str().into(), value, create_revision, mod_revision: revision };
            self.map.insert(key, kv);
        }
        self.past.push(self.map.clone());
        let answer = answer.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(answer, Committed { revision, previous: current }, "{context}");
    }

    async fn read(&self, store: &dyn Store, random: &mut Random, context: &str) {
        let key = random_key(random);
        assert_eq!(store.get(&key).await.ok(), Some(self.map.get(&key).cloned()), "{context}");
        let at = random.below(self.revision() + 2);
        let at = if random.below(3) == 0 { None } else { Some(at) };
        let prefix = ["", "/", "/1", "/1/", "/2/3", "/9"][random.below(6) as usize];
        let start_after = Some(random_key(random)).filter(|_| random.below(2) == 0);
        let limit = random.below(4) as usize;
        let answer = store.range(prefix, start_after.as_deref(), limit, at).await;
        let revision = at.unwrap_or(self.revision());
        if revision > self.revision() {
            assert!(matches!(answer, Err(StoreError::FutureRevision { .. })), "{context}: {answer:?}");
            return;
        }
        if revision < self.oldest {
            let oldest = self.oldest;
            assert!(
                matches!(answer, Err(StoreError::Compacted { oldest: o }) if o == oldest),
                "{context}: {answer:?}"
            );
            return;
        }
        let after = |key: &str| start_after.as_deref().is_none_or(|start| key > start);
        let all =
            self.past[revision as usize].iter().filter(|(key, _)| key.starts_with(prefix) && after(key));
        let mut expected: Vec<_> = all.map(|(_, kv)| kv.clone()).collect();
        let shown = if limit == 0 { expected.len() } else { limit.min(expected.len()) };
        let remaining = (expected.len() - shown) as u64;
        expected.truncate(shown);
        let answer = answer.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(answer.kvs, expected, "{context}");
        assert_eq!(
            (answer.revision, answer.more, answer.remaining),
            (revision, remaining > 0, remaining),
            "{context}"
        );
    }

    async fn compact(&mut self, store: &dyn Store, random: &mut Random, context: &str) {
        // Rarely far, so that there is history to read.
        let revision = self.oldest + random.below((self.revision() - self.oldest) / 4 + 1);
        store.compact(revision).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        self.oldest = revision;
    }
}

fn random_key(random: &mut Random) -> String {
    format!("/{}/{}", random.below(3), random.below(4))
}
