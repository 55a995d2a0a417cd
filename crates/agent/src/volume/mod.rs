//! A pod's volumes on this machine.

mod atomic;
mod payload;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::objects::Objects;
use crate::pod::fields::Facts;
use payload::Payload;

/// Prepares every volume of a pod, or brings those with content from the API up to date, and returns where
/// they are. Repeating it is cheap. The error says which volume and why.
pub(crate) async fn set_up(
    objects: &Objects,
    pod: &Pod,
    facts: &Facts,
    directory: &Path,
) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut paths = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let path = one(objects, pod, facts, volume, directory)
            .await
            .map_err(|e| format!("MountVolume.SetUp failed for volume \"{}\" : {e}", volume.name))?;
        paths.insert(volume.name.clone(), path);
    }
    Ok(paths)
}

async fn one(
    objects: &Objects,
    pod: &Pod,
    facts: &Facts,
    volume: &Volume,
    directory: &Path,
) -> Result<PathBuf, String> {
    let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()?.fs_group);
    let group = group.and_then(|g| u32::try_from(g).ok());
    let path = |plugin: &str| directory.join(format!("kubernetes.io~{plugin}")).join(&volume.name);
    if let Some(source) = &volume.host_path {
        return host_path(source);
    }
    if let Some(source) = &volume.empty_dir {
        let path = path("empty-dir");
        return empty_dir(source, &path, group).map(|()| path).map_err(|e| e.to_string());
    }
    let (plugin, payload) = if let Some(source) = &volume.config_map {
        ("configmap", Payload::config_map(objects, pod, source).await?)
    } else if let Some(source) = &volume.secret {
        ("secret", Payload::secret(objects, pod, source).await?)
    } else if let Some(source) = &volume.downward_api {
        ("downward-api", Payload::downward_api(pod, facts, source)?)
    } else if let Some(source) = &volume.projected {
        ("projected", Payload::projected(objects, pod, facts, source).await?)
    } else {
        return Err("this kind of volume is not supported by the agent".to_owned());
    };
    let path = path(plugin);
    atomic::write(&path, payload.files(), group).map_err(|e| e.to_string())?;
    Ok(path)
}

fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let wrong = || format!("hostPath type check failed: {} is not a {kind}", source.path);
    let meta = fs::metadata(&path);
    use std::os::unix::fs::FileTypeExt;
    let has = |check: fn(&fs::FileType) -> bool| meta.as_ref().is_ok_and(|m| check(&m.file_type()));
    let ok = match kind {
        "DirectoryOrCreate" => fs::create_dir_all(&path).is_ok(),
        "FileOrCreate" => path.is_file() || fs::File::options().create(true).append(true).open(&path).is_ok(),
        "Directory" => has(fs::FileType::is_dir),
        "File" => has(fs::FileType::is_file),
        "Socket" => has(FileTypeExt::is_socket),
        "CharDevice" => has(FileTypeExt::is_char_device),
        "BlockDevice" => has(FileTypeExt::is_block_device),
        _ => true,
    };
    if ok { Ok(path) } else { Err(wrong()) }
}

fn empty_dir(source: &EmptyDirVolumeSource, path: &Path, group: Option<u32>) -> io::Result<()> {
    let is_new = !path.exists();
    fs::create_dir_all(path)?;
    if source.medium.as_deref() == Some("Memory") && !is_mounted(path) {
        let size = source.size_limit.as_ref().and_then(|q| api::quantity::Quantity::parse(&q.0).ok());
        let options =
            size.filter(|s| !s.is_zero()).map(|s| format!("size={}", s.units())).unwrap_or_default();
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))?;
    } else if !is_new {
        return Ok(());
    }
    let mut mode = 0o777;
    if let Some(group) = group {
        chown(path, None, Some(group))?;
        mode |= 0o2000;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A mount point is on another device than its parent; tmpfs is the only kind mounted here.
fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Removes a pod's directory with its volumes.
pub(crate) fn tear_down(pod_directory: &Path) -> io::Result<()> {
    let memory = pod_directory.join("volumes/kubernetes.io~empty-dir");
    for entry in fs::read_dir(&memory).into_iter().flatten().flatten() {
        if is_mounted(&entry.path()) {
            unmount(entry.path(), UnmountFlags::DETACH)?;
        }
    }
    match fs::remove_dir_all(pod_directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
