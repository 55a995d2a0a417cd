//! One example per group of rules, through the strategy table as the API server uses it.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::strategy;

fn lines(errors: &crate::field::ErrorList) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn created(group: &str, kind: &str, mut object: Value) -> Value {
    let meta = json!({"metadata": {"name": "x", "namespace": "default", "uid": "1"}});
    let mut with_meta = meta;
    merge(&mut with_meta, object.take());
    let row = strategy::of(group, kind);
    (row.default)(&mut with_meta);
    (row.prepare_create)(&mut with_meta);
    with_meta
}

fn check(group: &str, kind: &str, object: Value, expected: Expect) {
    let object = created(group, kind, object);
    expected.assert_eq(&lines(&strategy::of(group, kind).check_create(&object)));
}

fn check_update(group: &str, kind: &str, object: Value, patch: Value, expected: Expect) {
    let row = strategy::of(group, kind);
    let old = created(group, kind, object);
    assert_eq!(lines(&row.check_create(&old)), "");
    let mut new = old.clone();
    merge(&mut new, patch);
    row.before_update(&mut new, &old);
    expected.assert_eq(&lines(&row.check_update(&new, &old)));
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    merge(&mut pod["spec"], spec);
    pod
}

#[test]
fn containers() {
    check(
        "",
        "Pod",
        pod(json!({"containers": null})),
        expect![[r#"
        spec.containers: Required value
    "#]],
    );
    check(
        "",
        "Pod",
        pod(json!({"containers": [
            {"name": "A", "image": "", "imagePullPolicy": "Often"},
            {"name": "b", "image": "b", "ports": [{"containerPort": 0}, {"containerPort": 70000, "protocol": "X"}]},
            {"name": "b", "image": " b", "env": [{"name": "a=b"}, {"name": "v", "valueFrom": {}}]},
        ]})),
        expect![[r#"
            spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[0].image: Required value
            spec.containers[0].imagePullPolicy: Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never"
            spec.containers[1].ports[0].containerPort: Required value
            spec.containers[1].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[1].ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            spec.containers[2].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[2].env[1].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[2].name: Duplicate value: "b"
            spec.containers[2].image: Invalid value: " b": must not have leading or trailing whitespace
        "#]],
    );
}

#[test]
fn probes_and_hooks() {
    check(
        "",
        "Pod",
        pod(json!({"containers": [{
            "name": "a", "image": "a",
            "livenessProbe": {"successThreshold": 2, "httpGet": {"port": "no_port", "scheme": "FTP"}},
            "readinessProbe": {"exec": {}, "tcpSocket": {"port": 1}, "periodSeconds": -1},
            "lifecycle": {"preStop": {"sleep": {"seconds": 60}}, "postStart": {}},
        }]})),
        expect![[r#"
            spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
            spec.containers[0].lifecycle.preStop.sleep: Invalid value: 60: must be non-negative and less than terminationGracePeriodSeconds (30)
            spec.containers[0].livenessProbe.httpGet.port: Invalid value: "no_port": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe.exec.command: Required value
            spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
        "#]],
    );
}

#[test]
fn resources() {
    check(
        "",
        "Pod",
        pod(json!({"containers": [{"name": "a", "image": "a", "resources": {
            "limits": {"cpu": "1", "odd": "1", "example.com/gpu": "1500m"},
            "requests": {"cpu": "2", "memory": "-1", "hugepages-2Mi": "3Mi"},
        }}]})),
        expect![[r#"
            spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer
            spec.containers[0].resources.limits[odd]: Invalid value: "odd": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits[odd]: Invalid value: "odd": must be a standard resource for containers
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer
            spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].resources.requests[odd]: Invalid value: "odd": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[odd]: Invalid value: "odd": must be a standard resource for containers
        "#]],
    );
}

#[test]
fn volumes_and_mounts() {
    check(
        "",
        "Pod",
        pod(json!({
            "volumes": [
                {"name": "v", "emptyDir": {}, "hostPath": {"path": "/../x"}},
                {"name": "c", "configMap": {"name": "", "defaultMode": 4096}},
                {"name": "p", "projected": {"sources": [
                    {"secret": {"name": "s", "items": [{"key": "k", "path": "../x"}]}, "configMap": {"name": "c"}},
                ]}},
                {"name": "ok", "emptyDir": {}},
                {"name": "ok", "emptyDir": {}},
            ],
            "containers": [{"name": "a", "image": "a", "volumeMounts": [
                {"name": "gone", "mountPath": "/a"},
                {"name": "ok", "mountPath": "/a", "subPath": "/b"},
            ]}],
        })),
        expect![[r#"
            spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].configMap.name: Required value
            spec.volumes[1].configMap.defaultMode: Invalid value: 4096: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[2].projected.sources[0].secret.items[0].path: Invalid value: "../x": must not contain '..'
            spec.volumes[2].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source
            spec.volumes[4].name: Duplicate value: "ok"
            spec.containers[0].volumeMounts[0].name: Not found: "gone"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
            spec.containers[0].volumeMounts.subPath: Invalid value: "/b": must be a relative path
        "#]],
    );
}

#[test]
fn scheduling() {
    check(
        "",
        "Pod",
        pod(json!({
            "tolerations": [{"operator": "Equal", "value": "v"}, {"key": "k", "operator": "Odd", "effect": "Odd"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["1", "2"]}]},
                ]}},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 0, "podAffinityTerm": {"topologyKey": ""}},
                ]},
            },
            "topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "Hope"}],
        })),
        expect![[r#"
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
            spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
            spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Required value: can not be empty
            spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Invalid value: "": name part must be non-empty
            spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Hope": supported values: "DoNotSchedule", "ScheduleAnyway"
            spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].operator: Unsupported value: "Odd": supported values: "Equal", "Exists"
            spec.tolerations[1].effect: Unsupported value: "Odd": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
        "#]],
    );
}

#[test]
fn security() {
    check(
        "",
        "Pod",
        pod(json!({
            "securityContext": {"runAsUser": -1, "seccompProfile": {"type": "Localhost"}, "sysctls": [{"name": "a b"}]},
            "containers": [{"name": "a", "image": "a", "securityContext": {
                "privileged": true, "allowPrivilegeEscalation": false, "procMount": "Odd",
            }}],
        })),
        expect![[r#"
            spec.containers[0].securityContext.procMount: Unsupported value: "Odd": supported values: "Default", "Unmasked"
            spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true,"procMount":"Odd"}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
            spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.securityContext.sysctls[0].name: Invalid value: "a b": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
            spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
        "#]],
    );
}

#[test]
fn pods_change_little() {
    let object = pod(json!({"activeDeadlineSeconds": 10}));
    check_update(
        "",
        "Pod",
        object.clone(),
        json!({"spec": {"nodeName": "n"}}),
        expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            @@ -42,7 +42,7 @@
              "NodeSelector": null,
              "ServiceAccountName": "",
              "AutomountServiceAccountToken": null,
            - "NodeName": "",
            + "NodeName": "n",
              "SecurityContext": {
               "HostNetwork": false,
               "HostPID": false,

        "#]],
    );
    check_update(
        "",
        "Pod",
        object.clone(),
        json!({"spec": {"activeDeadlineSeconds": 20}}),
        expect![[r#"
        spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value
    "#]],
    );
    check_update(
        "",
        "Pod",
        object,
        json!({"spec": {"containers": []}}),
        expect![[r#"
        spec.containers: Required value
        spec.containers: Forbidden: pod updates may not add or remove containers
    "#]],
    );
}

fn deployment(spec: Value) -> Value {
    let mut object = json!({"spec": {
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}},
    }});
    merge(&mut object["spec"], spec);
    object
}

#[test]
fn workloads() {
    check("apps", "Deployment", deployment(json!({})), expect![""]);
    check(
        "apps",
        "Deployment",
        deployment(json!({
            "replicas": -1,
            "template": {"metadata": {"labels": {"app": "b"}}, "spec": {"restartPolicy": "Never"}},
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}},
            "progressDeadlineSeconds": 5,
            "minReadySeconds": 5,
        })),
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: {"app":"b"}: `selector` does not match template `labels`
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
            spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds
        "#]],
    );
    let changed = json!({"spec": {
        "selector": {"matchLabels": {"app": "b"}},
        "template": {"metadata": {"labels": {"app": "b"}}},
    }});
    check_update(
        "apps",
        "Deployment",
        deployment(json!({})),
        changed,
        expect![[r#"
        spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable
    "#]],
    );
    check(
        "apps",
        "StatefulSet",
        deployment(json!({"serviceName": "A", "podManagementPolicy": "Odd"})),
        expect![[r#"
            spec.podManagementPolicy: Invalid value: "Odd": must be 'OrderedReady' or 'Parallel'
            spec.serviceName: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "#]],
    );
    check(
        "batch",
        "Job",
        json!({"spec": {"template": {"spec": {"containers": []}}}}),
        expect![[r#"
        spec.template.spec.containers: Required value
        spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
    "#]],
    );
    check(
        "batch",
        "CronJob",
        json!({"spec": {
            "schedule": "61 * * * *",
            "timeZone": "Mars/Olympus",
            "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}],
            }}}},
        }}),
        expect![[r#"
            spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61
            spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus
        "#]],
    );
}

#[test]
fn services() {
    check(
        "",
        "Service",
        json!({"spec": {"type": "ExternalName"}}),
        expect![[r#"
        spec.externalName: Required value
    "#]],
    );
    check(
        "",
        "Service",
        json!({"spec": {
            "sessionAffinity": "Odd",
            "externalIPs": ["127.0.0.1", "010.1.1.1"],
            "ports": [{"port": 0}, {"name": "a", "port": 80, "targetPort": "-"}, {"name": "a", "port": 80, "nodePort": 30000}],
            "loadBalancerClass": "a/b",
        }}),
        expect![[r#"
            spec.ports[0].name: Required value
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[1].targetPort: Invalid value: "-": must contain at least one letter (a-z)
            spec.ports[1].targetPort: Invalid value: "-": must not begin or end with a hyphen
            spec.ports[2].name: Duplicate value: "a"
            spec.sessionAffinity: Unsupported value: "Odd": supported values: "ClientIP", "None"
            spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            spec.externalIPs[1]: Invalid value: "010.1.1.1": must not have leading 0s
            spec.ports[2].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[2]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}
            spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
        "#]],
    );
}

#[test]
fn configuration() {
    check(
        "",
        "ConfigMap",
        json!({"data": {"a b": "1", "c": "2"}, "binaryData": {"c": "AA=="}}),
        expect![[r#"
        data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        data[c]: Invalid value: "c": duplicate of key present in binaryData
    "#]],
    );
    check(
        "",
        "Secret",
        json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}),
        expect![[r#"
        data[tls.key]: Required value
    "#]],
    );
    let frozen = json!({"immutable": true, "data": {"a": "1"}});
    check_update(
        "",
        "ConfigMap",
        frozen,
        json!({"data": {"a": "2"}, "immutable": false}),
        expect![[r#"
        immutable: Forbidden: field is immutable when `immutable` is set
        data: Forbidden: field is immutable when `immutable` is set
    "#]],
    );
}

#[test]
fn autoscaling_and_disruption() {
    check(
        "autoscaling",
        "HorizontalPodAutoscaler",
        json!({"spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"},
            "minReplicas": 5,
            "maxReplicas": 3,
            "metrics": [{"type": "Resource", "pods": {"metric": {"name": "m"}, "target": {"type": "Value"}}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 9999, "selectPolicy": "Odd"}},
        }}),
        expect![[r#"
            spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`
            spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue
            spec.metrics[0].resource: Required value: must populate information for the given metric source
            spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 9999: must be less than or equal to 3600
            spec.behavior.scaleDown.selectPolicy: Unsupported value: "Odd": supported values: "Disabled", "Max", "Min"
        "#]],
    );
    check(
        "policy",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": "110%", "maxUnavailable": -1}}),
        expect![[r#"
            spec: Invalid value: {"maxUnavailable":-1,"minAvailable":"110%"}: minAvailable and maxUnavailable cannot be both set
            spec.minAvailable: Invalid value: "110%": must not be greater than 100%
            spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0
        "#]],
    );
}

#[test]
fn cluster() {
    check(
        "",
        "Node",
        json!({"spec": {"taints": [{"key": "a", "effect": "Odd"}], "podCIDR": "x"}}),
        expect![[r#"
            metadata.taints[0].effect: Unsupported value: "Odd": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            spec.podCIDRs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "#]],
    );
    check(
        "",
        "Namespace",
        json!({"metadata": {"name": "A.b"}}),
        expect![[r#"
        metadata.name: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
    "#]],
    );
    check(
        "scheduling.k8s.io",
        "PriorityClass",
        json!({"value": 2_000_000_000}),
        expect![[r#"
        value: Forbidden: maximum allowed value of a user defined priority is 1000000000
    "#]],
    );
    check(
        "rbac.authorization.k8s.io",
        "Role",
        json!({"rules": [{"verbs": []}]}),
        expect![[r#"
        rules[0].verbs: Required value: verbs must contain at least one value
        rules[0].apiGroups: Required value: resource rules must supply at least one api group
        rules[0].resources: Required value: resource rules must supply at least one resource
    "#]],
    );
    check(
        "networking.k8s.io",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "ingress": [{"from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]}]}}),
        expect![[r#"
            spec.ingress[0].from[0]: Required value: must specify a peer
            spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: "11.0.0.0/9": must be a strict subset of `cidr`
        "#]],
    );
}

#[test]
fn karpenter() {
    check(
        "karpenter.sh",
        "NodePool",
        json!({"spec": {
            "weight": 101,
            "limits": {"cpu": "-1"},
            "disruption": {"consolidateAfter": "soon", "budgets": [{"nodes": "200%"}]},
            "template": {"spec": {"requirements": [
                {"key": "a b", "operator": "Near"},
                {"key": "karpenter.sh/capacity-type", "operator": "In", "values": []},
            ]}},
        }}),
        expect![[r#"
            spec.template.spec.requirements[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.template.spec.requirements[0].operator: Unsupported value: "Near": supported values: "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"
            spec.template.spec.requirements[1]: Invalid value: {"key":"karpenter.sh/capacity-type","operator":"In","values":[]}: requirements with operator 'In' must have a value defined
            spec.weight: Invalid value: 101: should be less than or equal to 100
            spec.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
            spec.disruption.consolidateAfter: Invalid value: "soon": should match '^(([0-9]+(s|m|h))+|Never)$'
            spec.disruption.budgets[0].nodes: Invalid value: "200%": should match '^((100|[0-9]{1,2})%|[0-9]+)$'
        "#]],
    );
}

#[test]
fn warnings() {
    let object = created(
        "",
        "Pod",
        pod(json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{"name": "a", "image": "a",
                "ports": [{"containerPort": 80}, {"containerPort": 80}],
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
            }],
        })),
    );
    let texts = (strategy::of("", "Pod").warnings)(&object).join("\n");
    expect![[r#"
        spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
        spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"#]]
    .assert_eq(&texts);
}
