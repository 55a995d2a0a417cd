//! Lifecycle hooks: what runs right after a container's start and right before its stop.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::http_get;

/// Runs a hook to its end, at most for `limit`.
pub(crate) async fn run(
    runtime: &dyn Runtime,
    handler: &LifecycleHandler,
    container: &Container,
    id: &str,
    pod_ip: &str,
    limit: Duration,
) -> Result<(), String> {
    let attempt = async {
        if let Some(exec) = &handler.exec {
            let command = exec.command.clone().unwrap_or_default();
            let output = runtime.exec_sync(id, &command, limit).await.map_err(|e| e.to_string())?;
            if output.exit_code != 0 {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(format!(
                    "command '{}' exited with {}: {said}",
                    command.join(" "),
                    output.exit_code
                ));
            }
        } else if let Some(get) = &handler.http_get {
            let code = http_get::get(get, pod_ip, container).await?;
            if code >= 400 {
                return Err(format!("HTTP hook answered {code}"));
            }
        } else if let Some(pause) = &handler.sleep {
            sleep(Duration::from_secs(u64::try_from(pause.seconds).unwrap_or(0))).await;
        }
        Ok(())
    };
    timeout(limit, attempt).await.unwrap_or_else(|_| Err("the hook took too long".to_owned()))
}
