//! Deliveries to many watchers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http::Connector;
use super::objects::{config_map, create_all};
use super::server::Server;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long the watchers may take to get everything after the last create.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Opens `watchers` watches, creates `objects` ConfigMaps and counts what arrives.
pub async fn run(watchers: usize, objects: usize) -> Result<()> {
    let server = Server::start(&["--components", "apiserver"]).await?;
    let connector = Connector::new(&server.config().await?)?;
    let delivered = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..watchers {
        let mut connection = connector.connect().await?;
        let path = format!("{CONFIG_MAPS}?watch=true");
        let mut body = connection.open(Method::GET, &path, Bytes::new()).await?.into_body();
        let delivered = delivered.clone();
        running.spawn(async move {
            let _connection = connection;
            let mut seen = 0;
            while seen < objects {
                let Some(Ok(frame)) = body.frame().await else { break };
                let lines =
                    frame.data_ref().map_or(0, |data| data.iter().filter(|&&byte| byte == b'\n').count());
                seen += lines;
                delivered.fetch_add(lines, Ordering::Relaxed);
            }
            seen
        });
    }
    let began = Instant::now();
    create_all(&connector, 16, objects, CONFIG_MAPS, config_map).await?;
    let created = began.elapsed();
    let mut complete = 0;
    let _ = tokio::time::timeout(CATCH_UP, async {
        while let Some(seen) = running.join_next().await {
            complete += usize::from(seen.is_ok_and(|seen| seen >= objects));
        }
    })
    .await;
    let (took, count) = (began.elapsed(), delivered.load(Ordering::Relaxed));
    println!(
        "{watchers} watchers, {objects} creates in {:.2} s: {count} deliveries in {:.2} s, {:.0} /s; {} watchers dropped",
        created.as_secs_f64(),
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        watchers - complete,
    );
    Ok(())
}
