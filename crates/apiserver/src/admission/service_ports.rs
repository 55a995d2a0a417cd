//! Which node ports a service gets: those it asks for, and drawn ones for the rest.

use schema::field::{Error, Path};
use serde_json::Value;

use super::services::{Allocator, PORT_TAKEN};

/// Where dry runs begin to number ports: nobody gets these.
const DRY_PORT: i64 = 32769;

/// Why there is no port.
pub(super) enum Refusal {
    /// A field asks for what cannot be had.
    Field(Error),
    /// 500 with upstream's introduction.
    Internal(String),
    /// 500 with a bare text.
    Plain(String),
}

/// The ports taken for one write.
pub(super) struct Ports<'a> {
    allocator: &'a Allocator,
    dry_run: bool,
    taken: &'a mut Vec<i64>,
    /// A dry run reserves nothing, so nothing of it is given back.
    imagined: Vec<i64>,
}

impl<'a> Ports<'a> {
    /// Puts what it reserves into `taken`.
    pub fn new(allocator: &'a Allocator, dry_run: bool, taken: &'a mut Vec<i64>) -> Self {
        Self { allocator, dry_run, taken, imagined: Vec::new() }
    }

    fn take(&mut self, port: i64) -> Result<(), &'static str> {
        if !self.dry_run {
            self.allocator.take_port(port)?;
            self.taken.push(port);
        } else if self.allocator.has_port(port) || self.imagined.contains(&port) {
            return Err(PORT_TAKEN);
        } else {
            self.imagined.push(port);
        }
        Ok(())
    }

    fn draw(&mut self) -> Option<i64> {
        if !self.dry_run {
            let port = self.allocator.draw_port()?;
            self.taken.push(port);
            return Some(port);
        }
        let next = self.imagined.iter().max().map_or(DRY_PORT, |last| (*last).max(0).saturating_add(1));
        self.imagined.push(next);
        Some(next)
    }
}

/// Writes ports into a new service's spec, or a changed one's.
pub(super) fn allocate(ports: &mut Ports<'_>, spec: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
    if ["NodePort", "LoadBalancer"].iter().any(|kind| spec["type"] == *kind) {
        match old {
            Some(old) => change(ports, spec, old)?,
            None => begin(ports, spec)?,
        }
    }
    if checks_health(spec) && !old.is_some_and(checks_health) {
        health_port(ports, spec).map_err(Refusal::Internal)?;
    }
    Ok(())
}

fn checks_health(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// Whether ports that nobody asks for are drawn.
fn draws(spec: &Value) -> bool {
    spec["type"] == "NodePort" || spec["allocateLoadBalancerNodePorts"] == true
}

fn number(port: &Value, field: &str) -> i64 {
    port[field].as_i64().unwrap_or(0)
}

fn full() -> Refusal {
    Refusal::Internal("failed to allocate a nodePort: range is full".to_owned())
}

fn refused(index: usize, port: i64, why: &str) -> Refusal {
    let path = Path::new("spec").child("ports");
    Refusal::Field(Error::invalid(&path.index(index).child("nodePort"), port, why))
}

/// A new service: one port of it has one node port, whatever the protocols.
fn begin(ports: &mut Ports<'_>, spec: &mut Value) -> Result<(), Refusal> {
    let draws = draws(spec);
    let Some(list) = spec["ports"].as_array_mut() else { return Ok(()) };
    let asked: Vec<(i64, i64)> = list.iter().map(|p| (number(p, "port"), number(p, "nodePort"))).collect();
    let mut given: Vec<(i64, i64)> = Vec::new();
    for (index, port) in list.iter_mut().enumerate() {
        let (served, wanted) = asked[index];
        if wanted == 0 && !draws {
            continue;
        }
        let before = given.iter().find(|(port, _)| *port == served).map(|(_, node_port)| *node_port);
        let node_port = match before {
            Some(node_port) if wanted == 0 => node_port,
            Some(node_port) if wanted == node_port => continue,
            Some(_) => {
                ports.take(wanted).map_err(|why| refused(index, wanted, why))?;
                continue;
            }
            None => {
                let wanted = asked.iter().find(|(port, wanted)| *port == served && *wanted != 0);
                match wanted {
                    Some((_, wanted)) => {
                        ports.take(*wanted).map_err(|why| refused(index, *wanted, why))?;
                        *wanted
                    }
                    None => ports.draw().ok_or_else(full)?,
                }
            }
        };
        if before.is_none() {
            given.push((served, node_port));
        }
        port["nodePort"] = node_port.into();
    }
    Ok(())
}

/// A changed service keeps what it had.
fn change(ports: &mut Ports<'_>, spec: &mut Value, old: &Value) -> Result<(), Refusal> {
    let draws = draws(spec);
    let had = old["ports"].as_array().into_iter().flatten().map(|port| number(port, "nodePort"));
    let mut known: Vec<i64> = had.filter(|port| *port != 0).collect();
    let mut listed: Vec<(String, i64)> = Vec::new();
    for (index, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
        let mut node_port = number(port, "nodePort");
        if node_port == 0 && !draws {
            continue;
        }
        if node_port == 0 {
            node_port = ports.draw().ok_or_else(full)?;
            port["nodePort"] = node_port.into();
        } else if !known.contains(&node_port) {
            ports.take(node_port).map_err(|why| refused(index, node_port, why))?;
            known.push(node_port);
        }
        let pair = (port["protocol"].as_str().unwrap_or_default().to_owned(), node_port);
        if listed.contains(&pair) {
            return Err(Refusal::Plain(format!("duplicate nodePort: {{{} {}}}", pair.0, pair.1)));
        }
        listed.push(pair);
    }
    Ok(())
}

fn health_port(ports: &mut Ports<'_>, spec: &mut Value) -> Result<(), String> {
    match number(spec, "healthCheckNodePort") {
        0 => {
            let drawn = ports.draw().ok_or("failed to allocate a HealthCheck NodePort 0: range is full")?;
            spec["healthCheckNodePort"] = drawn.into();
            Ok(())
        }
        wanted => ports
            .take(wanted)
            .map_err(|why| format!("failed to allocate requested HealthCheck NodePort {wanted}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(spec: Value, old: Option<Value>, dry_run: bool) -> String {
        let allocator = Allocator::new("10.96.0.0/16").unwrap();
        assert!(allocator.take_port(30001).is_ok());
        let (mut spec, mut taken) = (spec, Vec::new());
        let mut ports = Ports::new(&allocator, dry_run, &mut taken);
        match allocate(&mut ports, &mut spec, old.as_ref()) {
            Ok(()) => {
                let list = spec["ports"].as_array().unwrap();
                let shown: Vec<String> = list.iter().map(|port| port["nodePort"].to_string()).collect();
                shown.join(" ")
            }
            Err(Refusal::Field(error)) => error.to_string(),
            Err(Refusal::Internal(text) | Refusal::Plain(text)) => text,
        }
    }

    #[test]
    fn one_port_has_one_node_port_for_all_protocols() {
        let spec = |ports: Value| json!({"type": "NodePort", "ports": ports});
        let tcp_and_udp =
            json!([{"port": 53, "protocol": "TCP", "nodePort": 30053}, {"port": 53, "protocol": "UDP"}]);
        assert_eq!(outcome(spec(tcp_and_udp), None, false), "30053 30053");
        let two_ports = json!([{"port": 1, "nodePort": 30053}, {"port": 2, "nodePort": 30053}]);
        assert_eq!(
            outcome(spec(two_ports.clone()), None, false),
            "spec.ports[1].nodePort: Invalid value: 30053: provided port is already allocated"
        );
        // A change is held to less.
        assert_eq!(
            outcome(
                spec(
                    json!([{"port": 1, "protocol": "TCP", "nodePort": 30053}, {"port": 2, "protocol": "UDP", "nodePort": 30053}])
                ),
                Some(spec(json!([]))),
                false
            ),
            "30053 30053"
        );
        assert_eq!(outcome(spec(two_ports), Some(spec(json!([]))), false), "duplicate nodePort: { 30053}");
    }

    #[test]
    fn dry_runs_number_ports_that_nobody_gets() {
        let spec =
            json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}, {"port": 3, "nodePort": 7}]});
        assert_eq!(outcome(spec, None, true), "32769 32770 7");
        let taken = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30001}]});
        assert!(outcome(taken, None, true).ends_with("already allocated"));
    }

    #[test]
    fn balancers_may_go_without() {
        let spec = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 1}, {"port": 2, "nodePort": 30007}]});
        assert_eq!(outcome(spec, None, false), "null 30007");
    }
}
