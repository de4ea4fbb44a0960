//! Who can give a copy of a shard's state. Pure.

use schemas::control::Directory;
use schemas::records::ShardRole;

/// Addresses of others than `me` that have it: standbys first, those that lack least before the rest, then the owner. Who
/// is named in the assignment counts as living; who says that it restores has nothing to give.
pub(super) fn of(directory: &Directory, me: &str, shard: i32) -> Vec<String> {
    let Some(owners) = directory.owners(shard) else { return Vec::new() };
    let named = owners.standbys.iter().chain([&owners.warming, &owners.active]).filter(|name| *name != me);
    let mut peers: Vec<_> = named
        .filter_map(|name| {
            let member = directory.members.get(name)?;
            let part = member.shards.iter().find(|part| part.shard == shard)?;
            let has_it = part.lag >= 0 && part.role != ShardRole::Restoring;
            has_it.then(|| (part.role == ShardRole::Active, part.lag, member.endpoint.clone()))
        })
        .collect();
    peers.sort();
    peers.into_iter().map(|(_, _, endpoint)| endpoint).collect()
}

#[cfg(test)]
mod tests {
    use schemas::records::{Assignment, Member, MemberShard, ShardOwners};

    use super::*;

    fn member(name: &str, role: ShardRole, lag: i64) -> (String, Member) {
        let shards = vec![MemberShard { shard: 0, role, lag }];
        let (instance, endpoint) = (name.to_owned(), format!("http://{name}"));
        let member = Member { instance, endpoint, shards, beat: 1, layout: 1, epoch: 1, ..Member::default() };
        (name.to_owned(), member)
    }

    fn directory(members: Vec<(String, Member)>) -> Directory {
        let standbys = ["b", "c", "d", "gone"].map(str::to_owned).to_vec();
        let owners = ShardOwners { active: "a".to_owned(), standbys, warming: "e".to_owned() };
        let assignment = Assignment { epoch: 1, layout: 1, shards: vec![owners], ..Assignment::default() };
        Directory { assignment: Some(assignment), members: members.into_iter().collect() }
    }

    #[test]
    fn standbys_that_lack_least_come_first_and_the_owner_last() {
        let directory = directory(vec![
            member("a", ShardRole::Active, 0),
            member("b", ShardRole::Standby, 20),
            member("c", ShardRole::Standby, -1),
            member("d", ShardRole::Standby, 5),
            member("e", ShardRole::Standby, 9),
            member("another", ShardRole::Standby, 0),
        ]);
        assert_eq!(of(&directory, "c", 0), ["http://d", "http://e", "http://b", "http://a"]);
        assert_eq!(of(&directory, "d", 0), ["http://e", "http://b", "http://a"], "not oneself");
        assert!(of(&directory, "c", 1).is_empty(), "another shard");
    }

    #[test]
    fn where_all_restore_or_nothing_is_assigned_nobody_is_asked() {
        let restoring = vec![member("a", ShardRole::Restoring, -1), member("b", ShardRole::Standby, -1)];
        assert!(of(&directory(restoring), "b", 0).is_empty());
        assert!(of(&Directory::default(), "b", 0).is_empty());
    }
}
