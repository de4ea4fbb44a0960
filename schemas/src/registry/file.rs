//! What a cache knows, on disk: small JSON, replaced as a whole. A convenience, never the truth: a file that cannot be
//! read is as good as none.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Text of the schema by its id.
    pub(super) schemas: BTreeMap<u32, String>,
    /// Id by subject, of the schema that this build (or an earlier one) writes.
    pub(super) subjects: BTreeMap<String, u32>,
}

/// What the file says; nothing, with a warning, when it is damaged.
pub(super) fn load(path: &Path) -> Saved {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Saved::default(),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "schema file cannot be read, asking the registry instead");
            return Saved::default();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %path.display(), %error, "schema file is damaged, asking the registry instead");
        Saved::default()
    })
}

/// Replaces the file: readers see the old content or the new, also after a power cut.
pub(super) fn save(path: &Path, saved: &Saved) -> std::io::Result<()> {
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let text = serde_json::to_vec_pretty(saved)?;
    let written = std::fs::File::create(&part).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    });
    if written.is_err() {
        // The part may not even exist; the error that matters is the one above.
        let _ = std::fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_saved_and_survives_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schemas.json");
        assert_eq!(load(&path), Saved::default());

        let saved = Saved {
            schemas: BTreeMap::from([(7, "{\"type\":\"record\"}".to_owned())]),
            subjects: BTreeMap::from([("commands-x".to_owned(), 7)]),
        };
        save(&path, &saved).unwrap();
        assert_eq!(load(&path), saved);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no part left behind");

        for damage in ["", "{\"schemas\":{\"7\":", "[]", "{\"schemas\":{\"x\":\"\"},\"subjects\":{}}"] {
            std::fs::write(&path, damage).unwrap();
            assert_eq!(load(&path), Saved::default(), "{damage}");
        }
        assert!(save(&dir.path().join("absent/schemas.json"), &saved).is_err());
    }
}
