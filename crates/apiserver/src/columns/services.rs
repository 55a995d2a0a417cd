//! Networking kinds.

use super::*;
use std::collections::BTreeSet;

/// Service.
pub const SERVICE: &[Heading] = &[
    NAME,
    column(
        "Type",
        "string",
        "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer. \"ClusterIP\" allocates a cluster-internal IP address for load-balancing to endpoints. Endpoints are determined by the selector or if that is not specified, by manual construction of an Endpoints object or EndpointSlice objects. If clusterIP is \"None\", no virtual IP is allocated and the endpoints are published as a set of endpoints rather than a virtual IP. \"NodePort\" builds on ClusterIP and allocates a port on every node which routes to the same endpoints as the clusterIP. \"LoadBalancer\" builds on NodePort and creates an external load-balancer (if supported in the current cloud) which routes to the same endpoints as the clusterIP. \"ExternalName\" aliases this service to the specified externalName. Several other fields do not apply to ExternalName services. More info: https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types",
    ),
    column(
        "Cluster-IP",
        "string",
        "clusterIP is the IP address of the service and is usually assigned randomly. If an address is specified manually, is in-range (as per system configuration), and is not in use, it will be allocated to the service; otherwise creation of the service will fail. This field may not be changed through updates unless the type field is also being changed to ExternalName (which requires this field to be blank) or the type field is being changed from ExternalName (in which case this field may optionally be specified, as describe above).  Valid values are \"None\", empty string (\"\"), or a valid IP address. Setting this to \"None\" makes a \"headless service\" (no virtual IP), which is useful when direct endpoint connections are preferred and proxying is not required.  Only applies to types ClusterIP, NodePort, and LoadBalancer. If this field is specified when creating a Service of type ExternalName, creation will fail. This field will be wiped when updating a Service to type ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    column(
        "External-IP",
        "string",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.  These IPs are not managed by Kubernetes.  The user is responsible for ensuring that traffic arrives at a node with this IP.  A common example is external load-balancers that are not part of the Kubernetes system.",
    ),
    column(
        "Port(s)",
        "string",
        "The list of ports that are exposed by this service. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    AGE,
    wide(
        "Selector",
        "string",
        "Route service traffic to pods with label keys and values matching this selector. If empty or not present, the service is assumed to have an external process managing its endpoints, which Kubernetes will not modify. Only applies to types ClusterIP, NodePort, and LoadBalancer. Ignored if type is ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/",
    ),
];

/// Endpoints.
pub const ENDPOINTS: &[Heading] = &[
    NAME,
    column(
        "Endpoints",
        "string",
        "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the IPs they share. A single address with multiple ports, some of which are ready and some of which are not (because they come from different containers) will result in the address being displayed in different subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the same subset. Sets of addresses and ports that comprise a service.",
    ),
    AGE,
];

/// EndpointSlice.
pub const ENDPOINT_SLICE: &[Heading] = &[
    NAME,
    column(
        "AddressType",
        "string",
        "addressType specifies the type of address carried by this EndpointSlice. All addresses in this slice must be the same type. This field is immutable after creation. The following address types are currently supported: * IPv4: Represents an IPv4 Address. * IPv6: Represents an IPv6 Address. * FQDN: Represents a Fully Qualified Domain Name. (Deprecated) The EndpointSlice controller only generates, and kube-proxy only processes, slices of addressType \"IPv4\" and \"IPv6\". No semantics are defined for the \"FQDN\" type.",
    ),
    column(
        "Ports",
        "string",
        "ports specifies the list of network ports exposed by each endpoint in this slice. Each port must have a unique name. Each slice may include a maximum of 100 ports. Services always have at least 1 port, so EndpointSlices generated by the EndpointSlice controller will likewise always have at least 1 port. EndpointSlices used for other purposes may have an empty ports list.",
    ),
    column(
        "Endpoints",
        "string",
        "endpoints is a list of unique endpoints in this slice. Each slice may include a maximum of 1000 endpoints.",
    ),
    AGE,
];

/// Ingress.
pub const INGRESS: &[Heading] = &[
    NAME,
    column(
        "Class",
        "string",
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    column("Hosts", "string", "Hosts that incoming requests are matched against before the ingress rule"),
    column("Address", "string", "Address is a list containing ingress points for the load-balancer"),
    column("Ports", "string", "Ports of TLS configurations that open"),
    AGE,
];

/// IngressClass.
pub const INGRESS_CLASS: &[Heading] = &[
    NAME,
    column("Controller", "string", "Controller that is responsible for handling this class"),
    column("Parameters", "string", "A reference to a resource with additional parameters"),
    AGE,
];

/// NetworkPolicy.
pub const NETWORK_POLICY: &[Heading] = &[
    NAME,
    column(
        "Pod-Selector",
        "string",
        "podSelector selects the pods to which this NetworkPolicy object applies. The array of rules is applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace. Multiple network policies can select the same set of pods. In this case, the ingress rules for each are combined additively. This field is optional. If it is not specified, it defaults to an empty selector.",
    ),
    AGE,
];

/// ServiceCIDR.
pub const SERVICE_CIDR: &[Heading] = &[
    NAME,
    column(
        "CIDRs",
        "string",
        "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
    ),
    AGE,
];

/// IPAddress.
pub const IP_ADDRESS: &[Heading] = &[
    NAME,
    column(
        "ParentRef",
        "string",
        "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
    ),
];

/// One Service.
pub fn service(service: &Value, now: Timestamp) -> Row {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let (number_, protocol) = (number(port, "/port"), text(port, "/protocol"));
            match number(port, "/nodePort") {
                0 => format!("{number_}/{protocol}"),
                node_port => format!("{number_}:{node_port}/{protocol}"),
            }
        })
        .collect();
    row![
        name(service),
        text(service, "/spec/type"),
        list(service, "/spec/clusterIPs").first().and_then(Value::as_str).unwrap_or("<none>"),
        external_ip(service),
        or_none(ports.join(",")),
        age(service, now),
        labels(service, "/spec/selector"),
    ]
}

fn external_ip(service: &Value) -> String {
    let external = texts(service, "/spec/externalIPs");
    match text(service, "/spec/type") {
        "ClusterIP" | "NodePort" => or_none(external.join(",")),
        "LoadBalancer" => {
            let addresses = load_balancer_addresses(service);
            let all: Vec<&str> = addresses.split(',').filter(|ip| !ip.is_empty()).chain(external).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Sorted addresses (or host names) of a load balancer.
fn load_balancer_addresses(object: &Value) -> String {
    let addresses: BTreeSet<&str> = list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| text_or(ingress, "/ip", text(ingress, "/hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

/// One Endpoints.
pub fn endpoints(object: &Value, now: Timestamp) -> Row {
    let subsets = list(object, "/subsets");
    let mut all = Vec::new();
    for subset in subsets {
        let ips = || list(subset, "/addresses").iter().map(|address| text(address, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let port = number(port, "/port");
            all.extend(
                ips().map(
                    |ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") },
                ),
            );
        }
    }
    let shown = if subsets.is_empty() { "<none>".to_owned() } else { abbreviated(&all, 3) };
    row![name(object), shown, age(object, now)]
}

/// One EndpointSlice.
pub fn endpoint_slice(object: &Value, now: Timestamp) -> Row {
    let ports: Vec<String> = list(object, "/ports")
        .iter()
        .map(|port| {
            match (port.get("port").and_then(Value::as_i64), port.get("name").and_then(Value::as_str)) {
                (Some(number), _) => number.to_string(),
                (None, Some(name)) => name.to_owned(),
                (None, None) => "*".to_owned(),
            }
        })
        .collect();
    let addresses: Vec<String> = list(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| texts(endpoint, "/addresses"))
        .map(str::to_owned)
        .collect();
    let shown = |items: &[String]| match abbreviated(items, 3) {
        empty if empty.is_empty() => "<unset>".to_owned(),
        shown => shown,
    };
    row![name(object), text(object, "/addressType"), shown(&ports), shown(&addresses), age(object, now)]
}

/// One Ingress.
pub fn ingress(object: &Value, now: Timestamp) -> Row {
    let rules = list(object, "/spec/rules");
    let mut hosts: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= hosts.len() == 3;
        let host = text(rule, "/host");
        if !more && !host.is_empty() {
            hosts.push(host);
        }
    }
    let hosts = match (hosts.join(","), more) {
        (none, _) if none.is_empty() => "*".to_owned(),
        (some, true) => format!("{some} + {} more...", rules.len() - 3),
        (all, false) => all,
    };
    let ports = if list(object, "/spec/tls").is_empty() { "80" } else { "80, 443" };
    row![
        name(object),
        text_or(object, "/spec/ingressClassName", "<none>"),
        hosts,
        load_balancer_addresses(object),
        ports,
        age(object, now),
    ]
}

/// One IngressClass.
pub fn ingress_class(object: &Value, now: Timestamp) -> Row {
    let parameters = match object.pointer("/spec/parameters") {
        Some(parameters) => {
            let group = parameters.get("apiGroup").and_then(Value::as_str);
            let group = group.map_or_else(String::new, |group| format!(".{group}"));
            format!("{}{group}/{}", text(parameters, "/kind"), text(parameters, "/name"))
        }
        None => "<none>".to_owned(),
    };
    let is_default =
        text(object, "/metadata/annotations/ingressclass.kubernetes.io~1is-default-class") == "true";
    let name = format!("{}{}", name(object), if is_default { " (default)" } else { "" });
    row![name, text(object, "/spec/controller"), parameters, age(object, now)]
}

/// One NetworkPolicy.
pub fn network_policy(object: &Value, now: Timestamp) -> Row {
    row![name(object), selector(object, "/spec/podSelector"), age(object, now)]
}

/// One ServiceCIDR.
pub fn service_cidr(object: &Value, now: Timestamp) -> Row {
    row![name(object), texts(object, "/spec/cidrs").join(","), age(object, now)]
}

/// One IPAddress. Upstream's rows have one cell more than the table has columns.
pub fn ip_address(object: &Value, now: Timestamp) -> Row {
    let parent = match object.pointer("/spec/parentRef") {
        Some(parent) => {
            let mut shown = text(parent, "/resource").to_lowercase();
            for (separator, field) in [(".", "/group"), ("/", "/namespace")] {
                let part = text(parent, field);
                if !part.is_empty() {
                    shown.push_str(separator);
                    shown.push_str(part);
                }
            }
            format!("{shown}/{}", text(parent, "/name"))
        }
        None => "<none>".to_owned(),
    };
    row![name(object), parent, age(object, now)]
}
