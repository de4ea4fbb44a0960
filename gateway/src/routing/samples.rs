//! Directories for tests.

use schemas::control::Directory;
use schemas::records::{Assignment, Member, ShardOwners};

/// A member that is reached at `http://<name>`.
pub(crate) fn member(name: &str) -> Member {
    Member {
        instance: name.to_owned(),
        incarnation: "1".to_owned(),
        endpoint: format!("http://{name}"),
        beat: 1,
        ..Member::default()
    }
}

/// A shard for each of these owners.
pub(crate) fn assignment(epoch: i64, owners: &[&str]) -> Assignment {
    let shard = |owner: &&str| ShardOwners { active: (*owner).to_owned(), ..ShardOwners::default() };
    Assignment { epoch, shards: owners.iter().map(shard).collect(), ..Assignment::default() }
}

/// What the control topic says when it has said this.
pub(crate) fn directory(epoch: i64, owners: &[&str], members: &[&str]) -> Directory {
    let members = members.iter().map(|name| ((*name).to_owned(), member(name)));
    Directory { assignment: Some(assignment(epoch, owners)), members: members.collect() }
}
