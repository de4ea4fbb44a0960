//! Room on a disk, asked for before something is begun that would fill it.

use std::path::Path;

use crate::error::{Error, Result};

/// Refuses a directory that has less than this free. `way_out`: how to choose another.
pub fn check_room(dir: &Path, needed_mb: u64, way_out: &'static str) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).map_err(|errno| Error::io("look at the disk of", dir)(errno.into()))?;
    let free_mb = stat.f_bavail.saturating_mul(stat.f_frsize) / (1024 * 1024);
    if free_mb >= needed_mb {
        return Ok(());
    }
    Err(Error::DiskFull { path: dir.to_path_buf(), free_mb, needed_mb, way_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        check_room(dir.path(), 0, "").unwrap();
        let message = check_room(dir.path(), u64::MAX, "choose --dir").unwrap_err().to_string();
        let path = dir.path().display().to_string();
        assert!(
            message.starts_with(&format!("disk full: {path}")) && message.ends_with("or choose --dir"),
            "{message}"
        );
    }
}
