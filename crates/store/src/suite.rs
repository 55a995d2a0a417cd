//! The tests every engine runs. They panic with what went wrong; each takes an empty store.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! store::suite::run(|limits| async move { store::Memory::with_limits(limits) }).await;
//! # }); Ok::<_, std::io::Error>(())
//! ```

mod model;
mod reads;
mod watches;
mod writes;

use std::sync::Arc;

use bytes::Bytes;

pub use model::agrees_with_a_map;
pub use reads::{old_revisions_are_readable_until_compacted, range_pages_through_a_snapshot};
pub use watches::{
    a_slow_watcher_is_told_not_fed, a_watch_has_no_gap_and_no_duplicate_while_writers_run,
    a_watch_of_a_prefix_reports_progress, a_watch_resumes_from_a_revision, history_is_bounded,
};
pub use writes::{
    concurrent_writers_share_one_order, preconditions_hold, racing_writers_have_one_winner,
    revisions_count_committed_writes,
};

use crate::{Compare, KeyValue, Limits, Revision, Store, StoreError, Write};

/// Runs everything, each test on a store of its own from `make`.
pub async fn run<F, Fut, S>(make: F)
where
    F: Fn(Limits) -> Fut,
    Fut: Future<Output = S>,
    S: Store,
{
    let ample = Limits::default();
    let fresh = async || Arc::new(make(ample).await);
    preconditions_hold(&*fresh().await).await;
    revisions_count_committed_writes(&*fresh().await).await;
    concurrent_writers_share_one_order(fresh().await).await;
    racing_writers_have_one_winner(fresh().await).await;
    range_pages_through_a_snapshot(&*fresh().await).await;
    old_revisions_are_readable_until_compacted(&*fresh().await).await;
    a_watch_resumes_from_a_revision(&*fresh().await).await;
    a_watch_of_a_prefix_reports_progress(&*fresh().await).await;
    a_watch_has_no_gap_and_no_duplicate_while_writers_run(fresh().await).await;
    for seed in 0..8 {
        agrees_with_a_map(&*fresh().await, seed, 200).await;
    }
    let scarce = Limits { history_events: 64, history_bytes: 1 << 20 };
    history_is_bounded(&make(scarce).await, scarce).await;
    a_slow_watcher_is_told_not_fed(&make(scarce).await, scarce).await;
}

async fn put(store: &dyn Store, key: &str, compare: Compare, value: &str) -> Result<Revision, StoreError> {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Ok(store.commit(Write::put(key, compare, value)).await?.revision)
}

async fn set(store: &dyn Store, key: &str, value: &str) -> Revision {
    put(store, key, Compare::Any, value).await.expect("an unconditional put succeeds")
}

async fn remove(store: &dyn Store, key: &str) -> Revision {
    store.commit(Write::delete(key, Compare::Any)).await.expect("deleting a present key succeeds").revision
}

async fn get(store: &dyn Store, key: &str) -> Option<KeyValue> {
    store.get(key).await.expect("get succeeds")
}

async fn keys(store: &dyn Store, prefix: &str, at: Option<Revision>) -> Vec<String> {
    let range = store.range(prefix, None, 0, at).await.expect("range succeeds");
    range.kvs.iter().map(|kv| kv.key.to_string()).collect()
}

/// A small generator of its own (SplitMix64), so that a seed means the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
