//! The generated files: containerd's configuration and the pod network's.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Config, Error};
use crate::image;
use crate::private::process::find_program;

/// Where distributions put the CNI plugins.
pub(super) fn cni_bin_dir() -> Option<PathBuf> {
    ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
        .map(PathBuf::from)
        .into_iter()
        .find(|dir| ["bridge", "host-local", "loopback"].iter().all(|plugin| dir.join(plugin).exists()))
}

/// Overlay file systems do not stack on most others of their kind, nor exist on every kernel.
pub(super) fn snapshotter(config: &Config) -> &'static str {
    const OVERLAYFS_MAGIC: i64 = 0x794c_7630;
    let supported = fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("\toverlay\n"));
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    let stacked = rustix::fs::statfs(&config.root).is_ok_and(|s| s.f_type as i64 == OVERLAYFS_MAGIC);
    if supported && !stacked { "overlayfs" } else { "native" }
}

pub(super) fn write(config: &Config) -> Result<(), Error> {
    let conf_dir = config.state.join("cni");
    for dir in [&config.root, &config.state, &conf_dir] {
        fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.clone(), source })?;
    }
    put(&conf_dir.join("10-kobune.conflist"), &network(config))?;
    put(&config.config_file(), &containerd(config, &conf_dir))
}

fn put(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn network(config: &Config) -> String {
    let mut plugins = vec![serde_json::json!({
        "type": "bridge",
        "bridge": config.bridge,
        "isGateway": true,
        "hairpinMode": true,
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "dataDir": config.state.join("ipam"),
            "ranges": [[{"subnet": config.pod_cidr}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    })];
    // Host ports need iptables; everything else works without.
    let has_portmap = cni_bin_dir().is_some_and(|dir| dir.join("portmap").exists());
    if has_portmap && find_program("iptables").is_some() {
        plugins.push(serde_json::json!({"type": "portmap", "capabilities": {"portMappings": true}}));
    }
    serde_json::json!({"cniVersion": "0.4.0", "name": config.bridge, "plugins": plugins}).to_string()
}

/// TOML basic strings escape like JSON strings.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}

fn containerd(config: &Config, conf_dir: &Path) -> String {
    let cri = r#"plugins."io.containerd.grpc.v1.cri""#;
    format!(
        r#"version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = {socket}

[{cri}]
  sandbox_image = "{pause}"
  # Lowering a score needs CAP_SYS_RESOURCE, which root in a container or small VM may lack.
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  # Below our own state, where cleaning up finds them.
  netns_mounts_under_state_dir = true
  [{cri}.cni]
    bin_dir = {bin_dir}
    conf_dir = {conf_dir}
  [{cri}.containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        Root = {runc}
"#,
        root = quoted(&config.root),
        state = quoted(&config.state.join("state")),
        socket = quoted(&config.socket()),
        pause = image::PAUSE,
        bin_dir = quoted(&cni_bin_dir().unwrap_or_default()),
        conf_dir = quoted(conf_dir),
        snapshotter = snapshotter(config),
        runc = quoted(&config.state.join("runc")),
    )
}
