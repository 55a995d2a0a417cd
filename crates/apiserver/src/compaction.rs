//! History is forgotten after five to ten minutes, as upstream's etcd is told to: pages of a list can be
//! fetched that long.

use std::sync::Weak;
use std::time::Duration;

use crate::server::Inner;

const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Compacts to where the cache was an interval ago, until the server is gone.
pub(crate) async fn run(server: Weak<Inner>) {
    let mut before = None;
    loop {
        {
            let Some(server) = server.upgrade() else { return };
            let cache = server.durable();
            if let Some(revision) = before.replace(cache.applied())
                && let Err(error) = cache.compact(revision).await
            {
                tracing::debug!(%error, revision, "history stays for now");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
