use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

#[test]
fn durations_have_two_or_three_figures() {
    let check = |seconds: i64, expected: &str| assert_eq!(human_duration(seconds), expected);
    check(-5, "<invalid>");
    check(-1, "0s");
    check(119, "119s");
    check(120, "2m");
    check(125, "2m5s");
    check(3600, "60m");
    check(3 * 3600, "3h");
    check(3 * 3600 + 60, "3h1m");
    check(9 * 3600 + 60, "9h");
    check(49 * 3600, "2d1h");
    check(20 * 86_400, "20d");
    check(800 * 86_400, "2y70d");
    check(3000 * 86_400, "8y");
}

fn pod(spec: Value, status: Value) -> Row {
    let metadata = json!({"name": "web", "creationTimestamp": "2026-01-01T00:58:00Z"});
    pods::pod(&json!({"metadata": metadata, "spec": spec, "status": status}), now())
}

#[test]
fn a_running_pod_counts_ready_containers_and_restarts() {
    let row = pod(
        json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n1"}),
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
             "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:30Z"}}},
            {"name": "b", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ]}),
    );
    assert_eq!(
        Value::Array(row.cells),
        json!(["web", "1/2", "CrashLoopBackOff", "2 (30s ago)", "2m", "10.0.0.1", "n1", "<none>", "<none>"])
    );
    assert!(row.conditions.is_empty());
}

#[test]
fn a_pod_that_initializes_says_how_far_it_is() {
    let row = pod(
        json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}),
        json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}},
            {"name": "j", "state": {"running": {}}},
        ]}),
    );
    assert_eq!(row.cells[2], "Init:1/2");
}

#[test]
fn a_finished_pod_has_a_row_condition() {
    let row = pod(json!({"containers": [{"name": "a"}]}), json!({"phase": "Succeeded"}));
    assert_eq!(row.conditions[0]["reason"], "Succeeded");
}

#[test]
fn selectors_print_sorted_by_key() {
    let selector = json!({"matchLabels": {"b": "2"}, "matchExpressions": [
        {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]});
    assert_eq!(selector_text(&selector, ""), "a in (x,y),b=2,!c");
}

#[test]
fn every_row_has_as_many_cells_as_columns() {
    let registry = crate::kind::Registry::with_platform();
    for kind in registry.kinds() {
        let row = (kind.table.row)(&json!({"metadata": {"name": "x"}}), now());
        // Upstream's IPAddress has one cell too many.
        let expected = kind.table.columns.len() + usize::from(kind.kind == "IPAddress");
        assert_eq!(row.cells.len(), expected, "{} of {}", kind.kind, kind.group);
    }
}
