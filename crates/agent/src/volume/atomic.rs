//! Writing a set of files so that readers see either all old or all new ones: the files live in a
//! directory of their own, `..data` points to it and is swapped in one rename. Upstream's
//! `pkg/volume/util/atomic_writer.go` defines the layout, which programs in pods rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use super::payload::File;

const DATA: &str = "..data";

/// Makes `directory` show exactly `files`. Does nothing when it already does.
pub(super) fn write(directory: &Path, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    for path in files.keys() {
        let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
        if !plain || path.starts_with("..") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {path:?}")));
        }
    }
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let current = fs::read_link(directory.join(DATA)).ok();
    if current.as_ref().is_some_and(|c| shows(&directory.join(c), files)) {
        return Ok(());
    }
    let name = format!("..{}", base::clock::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = directory.join(&name);
    for (path, file) in files {
        let path = fresh.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        let mut mode = file.mode;
        if let Some(group) = group {
            chown(&path, None, Some(group))?;
            mode |= (mode & 0o700) >> 3 & 0o060;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::create_dir_all(&fresh)?;
    let next = directory.join("..data_tmp");
    let _ = fs::remove_file(&next);
    symlink(&name, &next)?;
    fs::rename(&next, directory.join(DATA))?;
    link_names(directory, files)?;
    match current {
        Some(old) => fs::remove_dir_all(directory.join(old)),
        None => Ok(()),
    }
}

/// The first component of each path, as a link through `..data`.
fn link_names(directory: &Path, files: &BTreeMap<String, File>) -> io::Result<()> {
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let stale = name.to_str().is_some_and(|n| !n.starts_with("..") && !names.contains(n));
        if stale && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn shows(directory: &Path, files: &BTreeMap<String, File>) -> bool {
    let mut seen = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { return false };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let known = path.strip_prefix(directory).ok().and_then(|p| files.get(p.to_str()?));
            if known.is_none_or(|file| fs::read(&path).ok().as_deref() != Some(&file.content)) {
                return false;
            }
            seen += 1;
        }
    }
    seen == files.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, File> {
        let file = |text: &str| File { content: text.into(), mode: 0o640 };
        pairs.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn updates_swap_everything_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).ok();
        write(dir.path(), &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!((read("a"), read("sub/b")), (Some("1".into()), Some("2".into())));
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let first = fs::read_link(dir.path().join(DATA)).unwrap();
        write(dir.path(), &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.path().join(DATA)).unwrap(), first, "nothing changed");
        write(dir.path(), &files(&[("a", "3")]), None).unwrap();
        assert_eq!((read("a"), read("sub/b")), (Some("3".into()), None));
        assert!(!dir.path().join(first).exists());
        assert!(write(dir.path(), &files(&[("../x", "")]), None).is_err());
    }
}
