//! When to look again. containerd's own event stream exists in every version; CRI's is the fallback for
//! other engines.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use runtime::{Change, Result};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::containerd::events_client::EventsClient;
use crate::containerd::{Envelope, SubscribeRequest, TaskEvent};
use crate::error::from_status;
use crate::proto::{GetEventsRequest, runtime_service_client::RuntimeServiceClient};

/// The CRI plugin listens to the same events as we do, so its view may be a moment older than an event:
/// each is passed on more than once.
const REPEATS: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(90), Duration::from_millis(500)];
const WAITING_MAX: usize = 1024;

pub(crate) async fn changes(
    channel: Channel,
    mut runtime: RuntimeServiceClient<Channel>,
) -> Result<BoxStream<'static, Change>> {
    let filters =
        ["exit", "start", "oom"].map(|t| format!("namespace==k8s.io,topic==\"/tasks/{t}\"")).to_vec();
    let ids: BoxStream<'static, String> =
        match EventsClient::new(channel).subscribe(SubscribeRequest { filters }).await {
            Ok(stream) => until_error(stream.into_inner()).filter_map(async |e| container_of(&e)).boxed(),
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                let stream = runtime.get_container_events(GetEventsRequest {}).await.map_err(from_status)?;
                until_error(stream.into_inner()).map(|e| e.container_id).boxed()
            }
            Err(status) => return Err(from_status(status)),
        };
    Ok(repeated(ids))
}

fn until_error<T: Send + 'static>(stream: tonic::Streaming<T>) -> BoxStream<'static, T> {
    stream.scan((), |(), item| std::future::ready(item.ok())).boxed()
}

fn container_of(envelope: &Envelope) -> Option<String> {
    let event = envelope.event.as_ref()?;
    Some(<TaskEvent as prost::Message>::decode(&event.value[..]).ok()?.container_id)
}

fn repeated(mut ids: BoxStream<'static, String>) -> BoxStream<'static, Change> {
    let (tx, rx) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let id = tokio::select! {
                id = ids.next() => id,
                () = tx.closed() => None,
            };
            let Some(id) = id else { return };
            let tx = tx.clone();
            tokio::spawn(async move {
                for delay in REPEATS {
                    tokio::time::sleep(delay).await;
                    // A full queue means that the listener has enough to look at.
                    let _ = tx.try_send(Change { id: id.clone() });
                }
            });
        }
    });
    futures::stream::unfold(rx, |mut rx| async move { rx.recv().await.map(|c| (c, rx)) }).boxed()
}
