//! Files that only their owner may read, written whole or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::StartError;

/// Creates a directory, and those above it, for its owner alone.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|cause| at(path, cause))
}

/// Writes a file for its owner alone; a reader sees the old or the new content, never a part.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), StartError> {
    let temporary = path.with_extension("new");
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|cause| at(path, cause))
}

/// Names the file that an error is about.
pub(crate) fn at(path: &Path, cause: std::io::Error) -> StartError {
    StartError::File { path: path.to_owned(), cause }
}
