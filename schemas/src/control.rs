//! What the control topic says: which instances live, and which of them owns which shard.
//!
//! Partition 0 holds the assignment, written by the leader in its transaction; partition 1 a record per member, without
//! transactions: an open one of a leader that died must not hide who lives. [`Directory`] is the fold of both, for
//! everyone who has to find the owner of a partition. It judges nothing: a member that fell silent is in it until the
//! leader has given its shards away.

use std::collections::BTreeMap;

use crate::records::{Assignment, Member, ShardOwners};
use crate::{AvroRecord, Lookup, SchemaCache, unframe};

/// Partition of the assignment.
pub const ASSIGNMENT_PARTITION: i32 = 0;
/// Partition of the members.
pub const MEMBER_PARTITION: i32 = 1;
/// Partitions of the topic.
pub const PARTITIONS: i32 = 2;
/// Each of them.
pub const PARTS: [i32; 2] = [ASSIGNMENT_PARTITION, MEMBER_PARTITION];
/// Key of the assignment.
pub const ASSIGNMENT_KEY: &[u8] = b"assignment";
/// First part of the key of a member; its name follows.
pub const MEMBER_PREFIX: &str = "member/";

/// Key of a member's record.
pub fn member_key(instance: &str) -> Vec<u8> {
    format!("{MEMBER_PREFIX}{instance}").into_bytes()
}

/// The member that a key of [`MEMBER_PARTITION`] names.
pub fn member_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.strip_prefix(MEMBER_PREFIX)
}

/// A record that cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The registry has not said yet what this schema id means: try the same record again.
    #[error("schema {0} is not known yet")]
    Wait(u32),
    /// It will never be readable.
    #[error("{0}")]
    Bad(String),
}

/// What a record changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is a new assignment.
    Assigned,
    /// A sign of life of this member.
    Beat(String),
    /// This member left.
    Left(String),
    /// Nothing: an assignment older than the one that is known.
    Nothing,
}

/// The fold of the control topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Who owns what; `None` before the first leader has decided.
    pub assignment: Option<Assignment>,
    /// The last word of every member, by name.
    pub members: BTreeMap<String, Member>,
}

impl Directory {
    /// Folds one record.
    pub fn apply(
        &mut self,
        schemas: &SchemaCache,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Change, ControlError> {
        let key = key.ok_or_else(|| ControlError::Bad("a control record without a key".to_owned()))?;
        match partition {
            ASSIGNMENT_PARTITION if key == ASSIGNMENT_KEY => {
                let value = value.ok_or_else(|| ControlError::Bad("an assignment without a value".to_owned()))?;
                Ok(self.assign(decode(schemas, value)?))
            }
            MEMBER_PARTITION => {
                let name = member_of(key).ok_or_else(|| unknown(key))?;
                let Some(value) = value else {
                    self.members.remove(name);
                    return Ok(Change::Left(name.to_owned()));
                };
                self.members.insert(name.to_owned(), decode(schemas, value)?);
                Ok(Change::Beat(name.to_owned()))
            }
            _ => Err(unknown(key)),
        }
    }

    fn assign(&mut self, assignment: Assignment) -> Change {
        if self.assignment.as_ref().is_some_and(|known| known.epoch >= assignment.epoch) {
            return Change::Nothing;
        }
        self.assignment = Some(assignment);
        Change::Assigned
    }

    /// Epoch of the assignment; 0 before the first.
    pub fn epoch(&self) -> i64 {
        self.assignment.as_ref().map_or(0, |assignment| assignment.epoch)
    }

    /// What is decided for a shard.
    pub fn owners(&self, shard: i32) -> Option<&ShardOwners> {
        let index = usize::try_from(shard).ok()?;
        self.assignment.as_ref()?.shards.get(index)
    }

    /// The shard of a partition; `None` before the first assignment.
    pub fn shard_of(&self, partition: i32) -> Option<i32> {
        let shards = i32::try_from(self.assignment.as_ref()?.shards.len()).ok()?;
        (shards > 0).then(|| partition.rem_euclid(shards))
    }

    /// The member that owns a partition, if it has said where it is.
    pub fn active(&self, partition: i32) -> Option<&Member> {
        let owners = self.owners(self.shard_of(partition)?)?;
        self.members.get(&owners.active)
    }

    /// The members that follow a partition, if they have said where they are.
    pub fn standbys(&self, partition: i32) -> Vec<&Member> {
        let owners = self.shard_of(partition).and_then(|shard| self.owners(shard));
        let names = owners.into_iter().flat_map(|owners| &owners.standbys);
        names.filter_map(|name| self.members.get(name)).collect()
    }
}

fn unknown(key: &[u8]) -> ControlError {
    ControlError::Bad(format!("unknown control record {:?}", String::from_utf8_lossy(key)))
}

fn decode<T: AvroRecord>(schemas: &SchemaCache, value: &[u8]) -> Result<T, ControlError> {
    let (id, datum) = unframe(value).map_err(|error| ControlError::Bad(error.to_string()))?;
    match schemas.writer(id) {
        Lookup::Known(writer) => writer.decode(datum).map_err(|error| ControlError::Bad(error.to_string())),
        Lookup::Pending => Err(ControlError::Wait(id)),
        Lookup::Absent(reason) => Err(ControlError::Bad(format!("schema {id}: {reason}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoder;
    use crate::records::{MemberShard, ShardRole};

    fn schemas() -> SchemaCache {
        SchemaCache::fixed(&[(1, Member::schema_json()), (2, Assignment::schema_json())]).unwrap()
    }

    fn member(name: &str) -> Vec<u8> {
        let shards = vec![MemberShard { shard: 0, role: ShardRole::Active, lag: 0 }];
        let record = Member {
            instance: name.to_owned(),
            incarnation: "1".to_owned(),
            endpoint: format!("http://{name}"),
            beat: 1,
            shards,
            ..Member::default()
        };
        let mut out = Vec::new();
        Encoder::new(1).encode(&record, &mut out).unwrap();
        out
    }

    fn assignment(epoch: i64, actives: &[&str]) -> Vec<u8> {
        let owners = |active: &&str| ShardOwners {
            active: (*active).to_owned(),
            standbys: vec!["b".to_owned(), "gone".to_owned()],
            warming: String::new(),
        };
        let shards = actives.iter().map(owners).collect();
        let record = Assignment { epoch, shards, ..Assignment::default() };
        let mut out = Vec::new();
        Encoder::new(2).encode(&record, &mut out).unwrap();
        out
    }

    #[test]
    fn the_owner_of_a_partition_is_found_when_both_have_spoken() {
        let (schemas, mut directory) = (schemas(), Directory::default());
        assert!(directory.active(0).is_none());
        let beat = directory.apply(&schemas, MEMBER_PARTITION, Some(b"member/a"), Some(&member("a"))).unwrap();
        assert_eq!(beat, Change::Beat("a".to_owned()));
        assert!(directory.active(0).is_none());
        let assigned = assignment(1, &["a", "b"]);
        let change = directory.apply(&schemas, ASSIGNMENT_PARTITION, Some(ASSIGNMENT_KEY), Some(&assigned)).unwrap();
        assert_eq!((change, directory.epoch()), (Change::Assigned, 1));
        assert_eq!(directory.active(4).unwrap().endpoint, "http://a");
        // Nobody knows where b is.
        assert!(directory.active(5).is_none());
        directory.apply(&schemas, MEMBER_PARTITION, Some(b"member/b"), Some(&member("b"))).unwrap();
        assert_eq!(directory.active(5).unwrap().instance, "b");
        assert_eq!(directory.standbys(4).iter().map(|member| member.instance.as_str()).collect::<Vec<_>>(), ["b"]);
        let left = directory.apply(&schemas, MEMBER_PARTITION, Some(b"member/a"), None).unwrap();
        assert_eq!(left, Change::Left("a".to_owned()));
        assert!(directory.active(4).is_none());
    }

    #[test]
    fn an_older_assignment_changes_nothing() {
        let (schemas, mut directory) = (schemas(), Directory::default());
        let mut assign = |epoch, active: &str| {
            let record = assignment(epoch, &[active]);
            directory.apply(&schemas, ASSIGNMENT_PARTITION, Some(ASSIGNMENT_KEY), Some(&record)).unwrap()
        };
        assert_eq!(assign(5, "a"), Change::Assigned);
        assert_eq!(assign(5, "b"), Change::Nothing);
        assert_eq!(assign(4, "b"), Change::Nothing);
        assert_eq!(directory.owners(0).unwrap().active, "a");
    }

    #[test]
    fn what_is_not_a_control_record_is_named() {
        let (schemas, mut directory) = (schemas(), Directory::default());
        let mut fold = |partition, key: Option<&[u8]>, value: Option<&[u8]>| {
            directory.apply(&schemas, partition, key, value).unwrap_err().to_string()
        };
        assert!(fold(ASSIGNMENT_PARTITION, None, None).contains("without a key"));
        assert!(fold(ASSIGNMENT_PARTITION, Some(ASSIGNMENT_KEY), None).contains("without a value"));
        assert!(fold(ASSIGNMENT_PARTITION, Some(b"other"), Some(b"")).contains("other"));
        assert!(fold(MEMBER_PARTITION, Some(b"a"), Some(b"")).contains("\"a\""));
        assert!(fold(MEMBER_PARTITION, Some(b"member/a"), Some(b"noise")).len() > 3);
        let mut unknown = member("a");
        unknown[4] = 9;
        assert!(fold(MEMBER_PARTITION, Some(b"member/a"), Some(&unknown)).contains("schema 9"));
    }
}
