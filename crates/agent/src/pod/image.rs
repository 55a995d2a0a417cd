//! Getting a container's image.

use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::Container;
use runtime::{Error, Image};
use tokio::time::Instant;

use super::spec;
use super::worker::{Report, Worker};

const FIRST_DELAY: Duration = Duration::from_secs(10);
const DELAY_MAX: Duration = Duration::from_secs(300);
/// For this long the error itself is shown, then that it will be tried again later.
const SHOW_ERROR: Duration = Duration::from_secs(2);

/// What a pod's worker remembers of an image that it lacks.
#[derive(Debug, Default)]
pub(crate) struct Pull {
    pub(super) running: bool,
    failure: Option<Failure>,
    /// The delay after the next failure.
    delay: Option<Duration>,
}

#[derive(Debug)]
struct Failure {
    error: Error,
    at: Instant,
    retry_at: Instant,
    /// Whether the back-off has been announced.
    announced: bool,
}

/// Whether a container's image is there.
pub(crate) enum Presence {
    Present(Image),
    /// Not yet; look again after this long, or when the pull reports.
    Absent(Duration),
}

impl Worker {
    /// Looks for the image and starts a pull where it is due. An image that is present is never pulled.
    pub(super) async fn image_of(&mut self, container: &Container) -> runtime::Result<Presence> {
        let reference = spec::image(container).to_owned();
        if let Some(image) = self.shared.config.runtime.image(&reference).await? {
            if self.pulls.remove(&reference).is_none() {
                let text = format!("Container image \"{reference}\" already present on machine");
                self.container_event(&container.name, EventType::Normal, "Pulled", text);
            }
            return Ok(Presence::Present(image));
        }
        if container.image_pull_policy.as_deref() == Some("Never") {
            let text = format!("Container image \"{reference}\" is not present with pull policy of Never");
            self.fail_to_start(&container.name, "ErrImageNeverPull", text);
            return Ok(Presence::Absent(FIRST_DELAY));
        }
        Ok(Presence::Absent(self.pull(container, reference)))
    }

    fn pull(&mut self, container: &Container, reference: String) -> Duration {
        let now = Instant::now();
        let pull = self.pulls.entry(reference.clone()).or_default();
        if pull.running {
            return DELAY_MAX;
        }
        let (mut shown, mut announce, mut wait) = (None, None, None);
        if let Some(failure) = pull.failure.as_mut().filter(|f| now < f.retry_at) {
            let error = &failure.error;
            if now < failure.at + SHOW_ERROR {
                shown = Some(("ErrImagePull", error.to_string()));
                wait = Some(failure.at + SHOW_ERROR - now);
            } else {
                let text = format!("Back-off pulling image \"{reference}\"");
                shown = Some(("ImagePullBackOff", format!("{text}: ErrImagePull: {error}")));
                wait = Some(failure.retry_at - now);
                announce = (!std::mem::replace(&mut failure.announced, true)).then_some(text);
            }
        } else {
            pull.running = true;
        }
        if let Some((reason, message)) = shown {
            self.memory.set_waiting(&container.name, reason, message);
        }
        if let Some(text) = announce {
            self.container_event(&container.name, EventType::Normal, "BackOff", text);
        }
        if let Some(wait) = wait {
            return wait;
        }
        self.container_event(
            &container.name,
            EventType::Normal,
            "Pulling",
            format!("Pulling image \"{reference}\""),
        );
        self.spawn_pull(container.name.clone(), reference);
        DELAY_MAX
    }

    fn spawn_pull(&self, container: String, reference: String) {
        let (shared, reports) = (self.shared.clone(), self.reports.clone());
        tokio::spawn(async move {
            // Pulls compete for one disk and one network.
            let permit = shared.pulls.acquire().await;
            let started = Instant::now();
            let result = shared.config.runtime.pull(&reference, None).await.map(drop);
            drop(permit);
            // The worker may have ended meanwhile.
            let _ =
                reports.send(Report::Pulled { container, reference, result, took: started.elapsed() }).await;
        });
    }

    /// Takes note of the end of a pull.
    pub(super) fn pulled(
        &mut self,
        container: &str,
        reference: &str,
        result: runtime::Result<()>,
        took: Duration,
    ) {
        let pull = self.pulls.entry(reference.to_owned()).or_default();
        pull.running = false;
        let error = match result {
            Ok(()) => {
                let text = format!("Successfully pulled image \"{reference}\" in {}ms", took.as_millis());
                self.container_event(container, EventType::Normal, "Pulled", text);
                return;
            }
            Err(error) => error,
        };
        let delay = pull.delay.unwrap_or(FIRST_DELAY);
        pull.delay = Some((delay * 2).min(DELAY_MAX));
        let at = Instant::now();
        pull.failure = Some(Failure { error: error.clone(), at, retry_at: at + delay, announced: false });
        let text = format!("Failed to pull image \"{reference}\": {error}");
        self.container_event(container, EventType::Warning, "Failed", text);
        self.container_event(container, EventType::Warning, "Failed", "Error: ErrImagePull".to_owned());
    }
}
