use super::{keys, remove, set};
use crate::{Store, StoreError};

/// Prefix, order, limit, `start_after`, `more` and `remaining`; pages of one revision are not disturbed
/// by writes in between.
pub async fn range_pages_through_a_snapshot(store: &dyn Store) {
    for key in ["/b/3", "/b/1", "/b", "/a", "/b/2", "/b/10", "/c", "/b0"] {
        set(store, key, key).await;
    }
    assert_eq!(keys(store, "/b/", None).await, ["/b/1", "/b/10", "/b/2", "/b/3"]);
    assert_eq!(keys(store, "", None).await.len(), 8);
    assert_eq!(keys(store, "/x", None).await, [""; 0]);
    let first = store.range("/b/", None, 2, None).await.expect("first page");
    assert_eq!(first.kvs.iter().map(|kv| &*kv.key).collect::<Vec<_>>(), ["/b/1", "/b/10"]);
    assert_eq!((first.revision, first.more, first.remaining), (8, true, 2));

    remove(store, "/b/3").await;
    set(store, "/b/2", "changed").await;
    set(store, "/b/0", "new").await;
    set(store, "/b/25", "new").await;
    let at = Some(first.revision);
    let second = store.range("/b/", Some("/b/10"), 2, at).await.expect("second page");
    assert_eq!(second.kvs.iter().map(|kv| &*kv.key).collect::<Vec<_>>(), ["/b/2", "/b/3"]);
    assert_eq!(second.kvs[0].value, "/b/2", "the value as it was");
    assert_eq!((second.revision, second.more, second.remaining), (8, false, 0));
    let end = store.range("/b/", Some("/b/3"), 2, at).await.expect("past the end");
    assert_eq!((end.kvs.len(), end.more), (0, false));
    let before = store.range("/b/", Some("/a"), 0, at).await.expect("a start before the prefix");
    assert_eq!(before.kvs.len(), 4);
    assert_eq!(keys(store, "/b/", None).await, ["/b/0", "/b/1", "/b/10", "/b/2", "/b/25"]);
}

/// Every revision in the history reads as it was; compacted and future ones say so.
pub async fn old_revisions_are_readable_until_compacted(store: &dyn Store) {
    set(store, "/a", "1").await;
    set(store, "/b", "2").await;
    remove(store, "/a").await;
    set(store, "/a", "4").await;
    set(store, "/b", "5").await;
    assert_eq!(keys(store, "", Some(0)).await, [""; 0]);
    assert_eq!(keys(store, "", Some(1)).await, ["/a"]);
    assert_eq!(keys(store, "", Some(2)).await, ["/a", "/b"]);
    assert_eq!(keys(store, "", Some(3)).await, ["/b"]);
    let old = store.range("", None, 0, Some(4)).await.expect("range");
    assert_eq!(old.kvs.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(old.kvs[0].create_revision, 4);

    let future = store.range("", None, 0, Some(6)).await;
    assert!(matches!(future, Err(StoreError::FutureRevision { current: 5 })), "{future:?}");
    assert!(matches!(store.compact(6).await, Err(StoreError::FutureRevision { current: 5 })));
    store.compact(3).await.expect("compact");
    store.compact(2).await.expect("compacting what is compacted does nothing");
    let compacted = store.range("", None, 0, Some(2)).await;
    assert!(matches!(compacted, Err(StoreError::Compacted { oldest: 3 })), "{compacted:?}");
    assert!(matches!(store.watch("", 2), Err(StoreError::Compacted { oldest: 3 })));
    assert_eq!(keys(store, "", Some(3)).await, ["/b"]);
    store.compact(5).await.expect("compact everything");
    assert_eq!(keys(store, "", Some(5)).await, ["/a", "/b"]);
    assert_eq!(keys(store, "", None).await, ["/a", "/b"]);
}
