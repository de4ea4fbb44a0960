//! Whose store a directory holds.
//!
//! The layout of shards is no part of it: the rows of a partition do not depend on the shard that it is in, so a change of
//! layout keeps the store. Under which layout it was written last is a part of its progress.

use serde::{Deserialize, Serialize};

use crate::StoreError;

/// What must be equal for the rows of a store to mean what the caller thinks. Written once, when a store is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the application.
    pub application: String,
    /// Id of the cluster whose offsets the progress holds.
    pub cluster_id: String,
    /// The partition whose tables these are.
    pub partition: i32,
    /// Prefix of the topic names.
    pub prefix: String,
    /// Bytes that must be equal and are never shown, such as the check value of a secret.
    pub check: Vec<u8>,
    /// What a store may hold in the place of `check`, such as the check values of secrets before. Not stored.
    #[serde(skip)]
    pub earlier_checks: Vec<Vec<u8>>,
}

impl Identity {
    /// Compares what a store says with what the caller expects; names the first field that differs.
    pub(crate) fn must_be(&self, expected: &Identity) -> Result<(), StoreError> {
        let fields = [
            ("application", self.application.clone(), expected.application.clone()),
            ("cluster id", self.cluster_id.clone(), expected.cluster_id.clone()),
            ("partition", self.partition.to_string(), expected.partition.to_string()),
            ("topic prefix", format!("'{}'", self.prefix), format!("'{}'", expected.prefix)),
        ];
        for (what, found, expected) in fields {
            if found != expected {
                return Err(StoreError::WrongStore { what, found, expected });
            }
        }
        if self.check != expected.check && !expected.earlier_checks.contains(&self.check) {
            let (found, expected) = ("another one".to_owned(), "the configured one".to_owned());
            return Err(StoreError::WrongStore { what: "check value", found, expected });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_counts_and_is_named() {
        let ours = Identity {
            application: "bank".into(),
            cluster_id: "c1".into(),
            partition: 3,
            prefix: String::new(),
            check: vec![1, 2],
            earlier_checks: vec![vec![1, 1]],
        };
        assert_eq!(ours.must_be(&ours.clone()), Ok(()));
        let earlier = Identity { check: vec![1, 1], ..ours.clone() };
        assert_eq!(earlier.must_be(&ours), Ok(()));
        assert!(
            ours.must_be(&Identity { earlier_checks: Vec::new(), ..earlier }).is_err(),
            "it was taken out of the list"
        );
        let others = [
            ("application", Identity { application: "shop".into(), ..ours.clone() }),
            ("cluster id", Identity { cluster_id: "c2".into(), ..ours.clone() }),
            ("partition", Identity { partition: 4, ..ours.clone() }),
            ("topic prefix", Identity { prefix: "test-".into(), ..ours.clone() }),
            ("check value", Identity { check: vec![1, 3], ..ours.clone() }),
        ];
        for (field, other) in others {
            match other.must_be(&ours) {
                Err(StoreError::WrongStore { what, .. }) => assert_eq!(what, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_check_value_is_never_shown() {
        let ours = Identity {
            application: String::new(),
            cluster_id: String::new(),
            partition: 0,
            prefix: String::new(),
            check: b"secret".to_vec(),
            earlier_checks: Vec::new(),
        };
        let error = Identity { check: b"hidden".to_vec(), ..ours.clone() }.must_be(&ours).unwrap_err();
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("hidden"), "{error}");
    }
}
