//! How components reach the Kubernetes API: a `kube::Client` in process or over the network,
//! shared informers, work queues and an event recorder.
//!
//! Nothing here knows our API server. The same components run against any cluster.

mod decision;
mod in_process;
mod informer;
mod record;
mod watch;
mod work_queue;

pub use decision::record_decision;
pub use in_process::in_process;
pub use informer::{Event, Index, Informer, Informers, Object, Scope, key_of, object_key};
pub use record::{EventType, Recorder, reference_to};
pub use tokio_util::sync::CancellationToken;
pub use work_queue::{Next, WorkQueue, run_workers};
