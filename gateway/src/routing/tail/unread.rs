//! Control records whose schema is not known yet: of a later version, while the registry is away.
//!
//! The latest of each key is kept, as compaction would keep it, so they are as few as there are members. Meanwhile what
//! was known before of that key stays in force.

use schemas::SchemaCache;
use schemas::control::{ASSIGNMENT_KEY, ASSIGNMENT_PARTITION, ControlError, Directory};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long members whose schema is not known hold up the first word: a registry that is there answers in a few
/// milliseconds.
const MEMBERS_PATIENCE: Duration = Duration::from_secs(2);

/// By partition and key.
#[derive(Debug, Default)]
pub(super) struct Unread(BTreeMap<(i32, Vec<u8>), Vec<u8>>);

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a record for later, in the place of an earlier one of its key.
    pub(super) fn put_aside(&mut self, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
        if let (Some(key), Some(value)) = (key, value) {
            self.0.insert((partition, key.to_vec()), value.to_vec());
        }
    }

    /// A later record of the key was read.
    pub(super) fn forget(&mut self, partition: i32, key: Option<&[u8]>) {
        if !self.0.is_empty()
            && let Some(key) = key
        {
            self.0.remove(&(partition, key.to_vec()));
        }
    }

    /// Folds what can be read by now. Whether anything could.
    pub(super) fn try_again(&mut self, directory: &mut Directory, schemas: &SchemaCache) -> bool {
        let before = self.0.len();
        self.0.retain(|(partition, key), value| match directory.apply(schemas, *partition, Some(key), Some(value)) {
            Ok(_) => false,
            Err(ControlError::Wait(_)) => true,
            Err(ControlError::Bad(reason)) => {
                tracing::warn!(partition, reason, "a control record is skipped");
                false
            }
        });
        self.0.len() < before
    }

    /// Whether what could be folded by now is of the past: the latest assignment waits here, or members do and nobody
    /// has waited for them yet.
    pub(super) fn hides_the_present(&self, waited: Duration) -> bool {
        let assignment = (ASSIGNMENT_PARTITION, ASSIGNMENT_KEY.to_vec());
        self.0.contains_key(&assignment) || !self.0.is_empty() && waited < MEMBERS_PATIENCE
    }
}
