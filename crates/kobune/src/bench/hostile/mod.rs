//! Clients that misbehave, against a server of our own, while another client goes on as usual.
//!
//! Every attack is bounded in number and time. What counts is the bystander: each of its requests has to
//! succeed, and the server's memory has to be back near where it was once the attackers are gone.

mod attacks;
mod raw;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;

use super::http::Connector;
use super::server::Server;

const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
/// How often the bystander writes and reads.
const BYSTANDER_PAUSE: Duration = Duration::from_millis(50);
/// The longest that one of the bystander's requests may take.
const BYSTANDER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the server is left alone before its memory counts.
const SETTLE: Duration = Duration::from_secs(5);
/// Memory that the server may have kept when all is over, in MiB.
const KEPT_MIB_MAX: f64 = 512.0;
/// Memory that the server may have had at any time, in MiB.
const PEAK_MIB_MAX: f64 = 2048.0;

/// What an attack works with.
struct Target {
    connector: Connector,
    watches: usize,
}

/// Runs one attack after the other.
pub async fn run(watches: usize) -> Result<()> {
    let server = Server::start(&["--components", "apiserver"]).await?;
    let target = Target { connector: Connector::new(&server.config().await?)?, watches };
    let before = server.memory_mib();
    let peak = Arc::new(Mutex::new(before));
    println!("memory at the beginning: {before:.0} MiB");

    macro_rules! attack {
        ($name:literal, $attack:expr) => {
            let (stop, stopped) = oneshot::channel();
            let bystander = tokio::spawn(bystander(target.connector.clone(), stopped));
            let began = Instant::now();
            let outcome = sampled(&server, &peak, $attack).await?;
            let _ = stop.send(());
            let worst = bystander.await??;
            println!(
                "{:<18} {outcome}\n{:<18} took {:.1} s; another client waited {worst:.0} ms at most; {:.0} MiB",
                $name,
                "",
                began.elapsed().as_secs_f64(),
                server.memory_mib(),
            );
        };
    }
    attack!("idle watches", attacks::idle_watches(&target));
    attack!("slow loris", attacks::slow_loris(&target));
    attack!("huge bodies", attacks::huge_bodies(&target));
    attack!("huge headers", attacks::huge_headers(&target));
    attack!("deep documents", attacks::deep_documents(&target));
    attack!("zip bombs", attacks::zip_bombs(&target));
    attack!("CEL bombs", attacks::cel_bombs(&target));
    attack!("slow readers", attacks::slow_readers(&target));
    attack!("rapid resets", attacks::rapid_resets(&target));

    tokio::time::sleep(SETTLE).await;
    let (kept, peak) = (server.memory_mib(), *peak.lock().await);
    println!("memory: {before:.0} MiB before, {peak:.0} MiB at most, {kept:.0} MiB after");
    if kept > KEPT_MIB_MAX || peak > PEAK_MIB_MAX {
        bail!("the server's memory is not bounded: at most {PEAK_MIB_MAX} MiB and {KEPT_MIB_MAX} MiB after");
    }
    println!("the server is healthy");
    Ok(())
}

/// Runs an attack and notes how much memory the server had at most.
async fn sampled(
    server: &Server,
    peak: &Mutex<f64>,
    attack: impl Future<Output = Result<String>>,
) -> Result<String> {
    let mut attack = std::pin::pin!(attack);
    loop {
        tokio::select! {
            outcome = &mut attack => return outcome,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let mut peak = peak.lock().await;
                *peak = peak.max(server.memory_mib());
            }
        }
    }
}

/// Writes and reads an object until it is stopped; how long its slowest request took, in milliseconds.
async fn bystander(connector: Connector, mut stopped: oneshot::Receiver<()>) -> Result<f64> {
    let path = format!("{COLLECTION}/bystander");
    let mut connection = connector.connect().await?;
    let mut worst = Duration::ZERO;
    for number in 0_u64.. {
        let object = json!({"metadata": {"name": "bystander"}, "data": {"number": number.to_string()}});
        let object = bytes::Bytes::from(object.to_string());
        let requests = async {
            if number == 0 {
                // The last attack's bystander may have left it.
                let _ = connection.open(Method::POST, COLLECTION, object.clone()).await?;
                connection = connector.connect().await?;
            }
            for (method, body) in [(Method::PUT, object), (Method::GET, bytes::Bytes::new())] {
                let sent = Instant::now();
                connection.send(method, &path, body, StatusCode::OK).await?;
                worst = worst.max(sent.elapsed());
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(BYSTANDER_TIMEOUT, requests).await {
            Ok(done) => done?,
            Err(_) => bail!("another client got no answer for {} s", BYSTANDER_TIMEOUT.as_secs()),
        }
        tokio::select! {
            _ = &mut stopped => break,
            () = tokio::time::sleep(BYSTANDER_PAUSE) => {}
        }
    }
    Ok(worst.as_secs_f64() * 1000.0)
}
