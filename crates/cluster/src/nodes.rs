//! The nodes that a cluster has from the start.

use std::fmt;

use futures::StreamExt;
use simnodes::{NodeSpec, SimNodes};

/// Nodes registered at the same time.
const BOOTING: usize = 64;

/// What nodes are made of, after looking around.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeInUse {
    /// There are no nodes from the start.
    None,
    /// Simulated, and why if that was not asked for.
    Simulated {
        /// Why containers are not possible here, if they were wanted.
        reason: Option<String>,
    },
    /// A containerd that runs here anyway, at this socket.
    Containerd(String),
    /// A containerd of our own.
    PrivateContainerd,
}

impl fmt::Display for RuntimeInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuntimeInUse::None => f.write_str("none"),
            RuntimeInUse::Simulated { reason: None } => f.write_str("simulated"),
            RuntimeInUse::Simulated { reason: Some(reason) } => write!(f, "simulated ({reason})"),
            RuntimeInUse::Containerd(socket) => write!(f, "containers on containerd at {socket}"),
            RuntimeInUse::PrivateContainerd => f.write_str("containers on a private containerd"),
        }
    }
}

/// Boots `count` simulated nodes `sim-0`, `sim-1`, …; those that exist already are left alone.
pub(crate) async fn boot_simulated(
    engine: &SimNodes,
    count: usize,
    (cpu_milli, memory_bytes): (i64, i64),
) -> Result<(), kube::Error> {
    let boots = (0..count).map(|number| {
        let engine = engine.clone();
        async move { engine.boot(&NodeSpec::new(format!("sim-{number}"), cpu_milli, memory_bytes)).await }
    });
    let mut boots = futures::stream::iter(boots).buffer_unordered(BOOTING);
    while let Some(booted) = boots.next().await {
        booted?;
    }
    Ok(())
}
