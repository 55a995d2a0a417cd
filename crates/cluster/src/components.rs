//! Which parts of the control plane run.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A part of a cluster that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The API server and its store.
    ApiServer,
    /// Puts pods on nodes.
    Scheduler,
    /// Workloads, namespaces, garbage collection, node life cycle, pod autoscaling.
    Controllers,
    /// Buys and returns nodes.
    Autoscaler,
    /// The nodes themselves, real or simulated.
    Nodes,
}

impl Component {
    const ALL: [Component; 5] = [
        Component::ApiServer,
        Component::Scheduler,
        Component::Controllers,
        Component::Autoscaler,
        Component::Nodes,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Component::ApiServer => "apiserver",
            Component::Scheduler => "scheduler",
            Component::Controllers => "controllers",
            Component::Autoscaler => "autoscaler",
            Component::Nodes => "nodes",
        }
    }
}

/// A set of components; it always has the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Components(BTreeSet<Component>);

impl Components {
    /// Whether `component` is to run.
    pub fn has(&self, component: Component) -> bool {
        self.0.contains(&component)
    }

    /// Whether the API server runs alone, as a plain kube-apiserver would.
    pub fn is_bare_apiserver(&self) -> bool {
        self.0.len() == 1
    }
}

impl Default for Components {
    fn default() -> Self {
        Self(Component::ALL.into_iter().collect())
    }
}

impl FromStr for Components {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut set = BTreeSet::from([Component::ApiServer]);
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match Component::ALL.into_iter().find(|component| component.name() == name) {
                Some(component) => set.insert(component),
                None => {
                    let known = Component::ALL.map(Component::name).join(", ");
                    return Err(format!("unknown component {name:?}; there are {known}"));
                }
            };
        }
        Ok(Self(set))
    }
}

impl fmt::Display for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|component| component.name()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_shown() {
        let some: Components = "scheduler, nodes".parse().unwrap();
        assert_eq!(some.to_string(), "apiserver,scheduler,nodes");
        assert!("apiserver".parse::<Components>().unwrap().is_bare_apiserver());
        assert!("etcd".parse::<Components>().unwrap_err().contains("there are apiserver"));
    }
}
