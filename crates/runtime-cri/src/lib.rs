//! Container engines that speak CRI v1 over a Unix socket (containerd, CRI-O), behind the `runtime`
//! trait; and [`private`], which runs a containerd of our own where none is offered.
//!
//! Commands with streams go through the engine's streaming server by SPDY/3.1: unlike its WebSocket
//! protocol, SPDY can close standard input, which `cat` and `tar` need.

mod convert;
mod error;
mod events;
pub mod image;
pub mod private;
mod streaming;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use runtime::{
    AttachRequest, Change, Container, ContainerConfig, ContainerStats, Error, ExecOutput, ExecRequest, Image,
    Labels, PortConnection, RegistryAuth, Result, Runtime, Sandbox, SandboxConfig, Session, Status, Version,
};

use crate::error::{from_status, pull_error};
use crate::proto::image_service_client::ImageServiceClient;
use crate::proto::runtime_service_client::RuntimeServiceClient;

#[allow(missing_docs, clippy::all, clippy::disallowed_types, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("runtime.v1");
}
#[allow(missing_docs, clippy::all, clippy::disallowed_types, reason = "generated")]
pub(crate) mod containerd {
    tonic::include_proto!("containerd.services.events.v1");
}

/// Calls that only look answer quickly or not at all.
const LOOK: Duration = Duration::from_secs(20);
/// Calls that start or stop something may have to wait for the network plugin or a busy disk.
const ACT: Duration = Duration::from_secs(240);
/// A pull may move gigabytes.
const PULL: Duration = Duration::from_secs(1800);
/// Lists of a full node exceed tonic's default of 4 MiB; containerd itself allows 16.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// An engine behind a CRI socket. Clones share the connection, which is opened on first use and again
/// after the engine restarts.
#[derive(Clone)]
pub struct Cri {
    socket: PathBuf,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
}

impl Cri {
    /// An engine behind `socket`; nothing is connected yet.
    pub fn new(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is required by the type and used by nobody.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self {
            socket: socket.to_owned(),
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            channel,
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn request<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Makes a call on one of the services and maps its error.
macro_rules! call {
    ($client:expr, $method:ident, $message:expr, $timeout:expr) => {
        $client
            .clone()
            .$method(request($message, $timeout))
            .await
            .map(tonic::Response::into_inner)
            .map_err(from_status)
    };
}

/// Removing what is absent has succeeded.
fn absent_is_fine<T>(result: Result<T>) -> Result<()> {
    match result {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

#[async_trait]
impl Runtime for Cri {
    async fn version(&self) -> Result<Version> {
        let answer = call!(self.runtime, version, proto::VersionRequest::default(), LOOK)?;
        Ok(Version { name: answer.runtime_name, version: answer.runtime_version })
    }

    async fn status(&self) -> Result<Status> {
        let answer = call!(self.runtime, status, proto::StatusRequest {}, LOOK)?;
        Ok(convert::status(answer))
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let message = proto::ImageStatusRequest { image: Some(convert::image_spec(reference, "")) };
        Ok(call!(self.images, image_status, message, LOOK)?.image.map(convert::image))
    }

    async fn images(&self) -> Result<Vec<Image>> {
        let answer = call!(self.images, list_images, proto::ListImagesRequest {}, LOOK)?;
        Ok(answer.images.into_iter().map(convert::image).collect())
    }

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<String> {
        let auth =
            auth.map(|a| proto::AuthConfig { username: a.username.clone(), password: a.password.clone() });
        let image = Some(convert::image_spec(reference, reference));
        let message = proto::PullImageRequest { image, auth, sandbox_config: None };
        let answer = self.images.clone().pull_image(request(message, PULL)).await.map_err(pull_error)?;
        Ok(answer.into_inner().image_ref)
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let message = proto::RemoveImageRequest { image: Some(convert::image_spec(reference, "")) };
        absent_is_fine(call!(self.images, remove_image, message, ACT))
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<String> {
        let message = proto::RunPodSandboxRequest {
            config: Some(convert::sandbox_config(config)),
            runtime_handler: config.runtime_handler.clone(),
        };
        Ok(call!(self.runtime, run_pod_sandbox, message, ACT)?.pod_sandbox_id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let message = proto::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_fine(call!(self.runtime, stop_pod_sandbox, message, ACT))
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let message = proto::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_fine(call!(self.runtime, remove_pod_sandbox, message, ACT))
    }

    async fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let message = proto::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned() };
        let answer = call!(self.runtime, pod_sandbox_status, message, LOOK)?;
        answer
            .status
            .map(convert::sandbox_status)
            .ok_or_else(|| Error::Internal(format!("no status for {id}")))
    }

    async fn sandboxes(&self, labels: &Labels) -> Result<Vec<Sandbox>> {
        let filter = proto::PodSandboxFilter { label_selector: labels.clone(), ..Default::default() };
        let message = proto::ListPodSandboxRequest { filter: Some(filter) };
        let answer = call!(self.runtime, list_pod_sandbox, message, LOOK)?;
        Ok(answer.items.into_iter().map(convert::sandbox).collect())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &SandboxConfig,
    ) -> Result<String> {
        let message = proto::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(convert::container_config(config)),
            sandbox_config: Some(convert::sandbox_config(sandbox)),
        };
        Ok(call!(self.runtime, create_container, message, ACT)?.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let message = proto::StartContainerRequest { container_id: id.to_owned() };
        call!(self.runtime, start_container, message, ACT).map(drop)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let message = proto::StopContainerRequest { container_id: id.to_owned(), timeout };
        absent_is_fine(call!(self.runtime, stop_container, message, grace.saturating_add(ACT)))
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let message = proto::RemoveContainerRequest { container_id: id.to_owned() };
        absent_is_fine(call!(self.runtime, remove_container, message, ACT))
    }

    async fn container(&self, id: &str) -> Result<Container> {
        let message = proto::ContainerStatusRequest { container_id: id.to_owned() };
        let answer = call!(self.runtime, container_status, message, LOOK)?;
        answer
            .status
            .map(convert::container_status)
            .ok_or_else(|| Error::Internal(format!("no status for {id}")))
    }

    async fn containers(&self, labels: &Labels) -> Result<Vec<Container>> {
        let filter = proto::ContainerFilter { label_selector: labels.clone(), ..Default::default() };
        let message = proto::ListContainersRequest { filter: Some(filter) };
        let answer = call!(self.runtime, list_containers, message, LOOK)?;
        Ok(answer.containers.into_iter().map(convert::container).collect())
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        let message = proto::ReopenContainerLogRequest { container_id: id.to_owned() };
        call!(self.runtime, reopen_container_log, message, LOOK).map(drop)
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        // The engine counts in whole seconds, and 0 means forever.
        let seconds = i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX);
        let message =
            proto::ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout: seconds };
        let answer = call!(self.runtime, exec_sync, message, timeout.saturating_add(LOOK))?;
        Ok(ExecOutput {
            stdout: answer.stdout.into(),
            stderr: answer.stderr.into(),
            exit_code: answer.exit_code,
        })
    }

    async fn exec(&self, id: &str, exec: &ExecRequest) -> Result<Session> {
        let streams = exec.streams;
        let message = proto::ExecRequest {
            container_id: id.to_owned(),
            cmd: exec.command.clone(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr && !streams.tty,
        };
        let url = call!(self.runtime, exec, message, LOOK)?.url;
        streaming::session(&url, streams).await
    }

    async fn attach(&self, id: &str, attach: &AttachRequest) -> Result<Session> {
        let streams = attach.streams;
        let message = proto::AttachRequest {
            container_id: id.to_owned(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr && !streams.tty,
        };
        let url = call!(self.runtime, attach, message, LOOK)?.url;
        streaming::session(&url, streams).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<PortConnection> {
        let message =
            proto::PortForwardRequest { pod_sandbox_id: sandbox_id.to_owned(), port: vec![i32::from(port)] };
        let url = call!(self.runtime, port_forward, message, LOOK)?.url;
        streaming::port_forward(&url, port).await
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>> {
        let answer = call!(self.runtime, list_container_stats, proto::ListContainerStatsRequest {}, LOOK)?;
        Ok(answer.stats.into_iter().filter_map(convert::stats).collect())
    }

    async fn changes(&self) -> Result<BoxStream<'static, Change>> {
        events::changes(self.channel.clone(), self.runtime.clone()).await
    }
}
