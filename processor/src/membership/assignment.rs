//! Who should own what: members and the previous assignment to the next one. Pure.
//!
//! A sorted, sticky pass. What is where it is stays there; a shard whose owner is gone goes to its warmest follower; a
//! move of a healthy shard warms up first and then switches; few moves at a time. The same input gives the same result,
//! so a new leader goes on where the last one stopped, and a result that is fed back with nothing changed is the same
//! again. It moves no data and knows no time: a wrong suspicion costs a move.

use std::collections::{BTreeMap, BTreeSet};

use schemas::records::{ShardOwners, ShardRole};

/// A live member, as far as the decision needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Unique; ties are broken by it.
    pub name: String,
    /// Failure domain; empty: none is known.
    pub rack: String,
    /// What it says of the shards that it holds: its part, and the changelog records that it lacks (-1: not known).
    pub shards: BTreeMap<i32, (ShardRole, i64)>,
    /// Shards that it cannot hold before an operator has looked at it.
    pub stopped: BTreeSet<i32>,
}

/// What the decision aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Standbys of each shard, as far as there are instances for them.
    pub standbys: usize,
    /// Moves of healthy shards under way at once.
    pub moves_max: usize,
    /// A follower that lacks no more than this many changelog records may take over without a long pause.
    pub warm_lag_max: i64,
}

impl Default for Rules {
    /// One standby; two moves at once, so that the instances that stay keep most of their capacity; a tail that is read
    /// in a few milliseconds.
    fn default() -> Rules {
        Rules { standbys: 1, moves_max: 2, warm_lag_max: 2_000 }
    }
}

/// The next assignment of all shards. `members` are those that live; with none nothing changes. A shard that stopped at
/// every one of them has no owner.
pub fn next(previous: &[ShardOwners], shards: i32, members: &[Candidate], rules: Rules) -> Vec<ShardOwners> {
    let mut owners = previous.to_vec();
    owners.resize(usize::try_from(shards).unwrap_or(0), ShardOwners::default());
    if members.is_empty() {
        return owners;
    }
    let members = members.iter().map(|member| (member.name.as_str(), member)).collect();
    let mut plan = Plan { owners, members, rules };
    plan.forget_the_gone();
    plan.give_away_the_ownerless();
    plan.end_moves();
    plan.begin_moves();
    plan.fill_standbys();
    plan.spread_standbys();
    plan.trim_standbys();
    plan.owners
}

struct Plan<'m> {
    owners: Vec<ShardOwners>,
    members: BTreeMap<&'m str, &'m Candidate>,
    rules: Rules,
}

/// Shards are counted by i32 in records and by usize in vectors.
fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

impl Plan<'_> {
    /// Lives, and has not given the shard up.
    fn may_hold(&self, name: &str, shard: usize) -> bool {
        self.members.get(name).is_some_and(|member| !member.stopped.contains(&number(shard)))
    }

    fn rack(&self, name: &str) -> &str {
        self.members.get(name).map_or("", |member| member.rack.as_str())
    }

    /// Changelog records that a member lacks; `None` when it does not hold the shard or does not know.
    fn lag(&self, name: &str, shard: usize) -> Option<i64> {
        let (_, lag) = self.members.get(name)?.shards.get(&number(shard))?;
        (*lag >= 0).then_some(*lag)
    }

    fn is_warm(&self, name: &str, shard: usize) -> bool {
        self.lag(name, shard).is_some_and(|lag| lag <= self.rules.warm_lag_max)
    }

    fn active_count(&self, name: &str) -> usize {
        self.owners.iter().filter(|owners| owners.active == name).count()
    }

    /// As it will be when the moves under way have ended.
    fn planned_count(&self, name: &str) -> usize {
        let owner =
            |owners: &ShardOwners| if owners.warming.is_empty() { &owners.active } else { &owners.warming } == name;
        self.owners.iter().filter(|owners| owner(owners)).count()
    }

    /// Whether its owner says that it runs: it may just have been given the shard.
    fn is_running(&self, shard: usize) -> bool {
        let owner = self.members.get(self.owners[shard].active.as_str());
        let part = owner.and_then(|owner| owner.shards.get(&number(shard)));
        part.is_some_and(|(role, _)| *role == ShardRole::Active)
    }

    fn running_count(&self, name: &str) -> usize {
        (0..self.owners.len()).filter(|shard| self.owners[*shard].active == name && self.is_running(*shard)).count()
    }

    fn standby_count(&self, name: &str) -> usize {
        self.owners.iter().filter(|owners| owners.standbys.iter().any(|standby| standby == name)).count()
    }

    fn names(&self) -> Vec<String> {
        self.members.keys().map(|name| (*name).to_owned()).collect()
    }

    fn forget_the_gone(&mut self) {
        for shard in 0..self.owners.len() {
            let mut owners = std::mem::take(&mut self.owners[shard]);
            if !self.may_hold(&owners.active, shard) {
                owners.active.clear();
            }
            if !self.may_hold(&owners.warming, shard) || owners.warming == owners.active {
                owners.warming.clear();
            }
            let mut kept: Vec<String> = Vec::new();
            for standby in owners.standbys.drain(..) {
                if self.may_hold(&standby, shard) && standby != owners.active && !kept.contains(&standby) {
                    kept.push(standby);
                }
            }
            owners.standbys = kept;
            self.owners[shard] = owners;
        }
    }

    /// To the warmest follower; of several warm ones, to the one with the fewest shards.
    fn give_away_the_ownerless(&mut self) {
        for shard in 0..self.owners.len() {
            if !self.owners[shard].active.is_empty() {
                continue;
            }
            let key = |name: &String| {
                let cold = if self.is_warm(name, shard) { -1 } else { self.lag(name, shard).unwrap_or(i64::MAX) };
                (cold, self.planned_count(name), self.standby_count(name), name.clone())
            };
            let able = self.names().into_iter().filter(|name| self.may_hold(name, shard));
            let Some(chosen) = able.min_by_key(key) else { continue };
            let owners = &mut self.owners[shard];
            owners.standbys.retain(|standby| *standby != chosen);
            owners.warming.clear();
            owners.active = chosen;
        }
    }

    /// A move ends when its target has caught up, or when it is no use any more.
    fn end_moves(&mut self) {
        for shard in 0..self.owners.len() {
            let (from, to) = (self.owners[shard].active.clone(), self.owners[shard].warming.clone());
            if to.is_empty() {
                continue;
            }
            if self.active_count(&from) < self.active_count(&to) + 2 {
                self.owners[shard].warming.clear();
            } else if self.is_warm(&to, shard) {
                let owners = &mut self.owners[shard];
                owners.standbys.retain(|standby| *standby != to);
                if self.rules.standbys > 0 {
                    // It has everything: the best standby that there could be.
                    owners.standbys.insert(0, from);
                }
                owners.warming.clear();
                owners.active = to;
            }
        }
    }

    /// From who has the most to who has the fewest, as long as that evens them out. What runs goes first: a shard that was
    /// switched a moment ago would be switched again, and nobody would run it for both pauses. No more than an order: an
    /// owner that never comes to run its shard can lose it like any other.
    fn begin_moves(&mut self) {
        let mut names = self.names();
        while self.owners.iter().filter(|owners| !owners.warming.is_empty()).count() < self.rules.moves_max {
            let fewest = names.iter().min_by_key(|name| (self.planned_count(name), name.as_str()));
            let most = names.iter().max_by_key(|name| {
                (self.planned_count(name), self.running_count(name), std::cmp::Reverse(name.as_str()))
            });
            let (Some(to), Some(from)) = (fewest.cloned(), most) else { return };
            if self.planned_count(from) < self.planned_count(&to) + 2 {
                return;
            }
            let movable = (0..self.owners.len()).filter(|shard| {
                let owners = &self.owners[*shard];
                owners.active == *from && owners.warming.is_empty() && self.may_hold(&to, *shard)
            });
            let warmest = |shard: &usize| {
                (!self.is_running(*shard), self.lag(&to, *shard).unwrap_or(i64::MAX), std::cmp::Reverse(*shard))
            };
            match movable.min_by_key(warmest) {
                Some(shard) => self.owners[shard].warming = to,
                // It has given up whatever it could be given: the others even themselves out.
                None => names.retain(|name| *name != to),
            }
        }
    }

    /// Whether a standby there would go down with the owner or with another standby.
    fn shares_rack(&self, name: &str, shard: usize) -> bool {
        let owners = &self.owners[shard];
        let others = std::iter::once(&owners.active).chain(&owners.standbys).filter(|other| *other != name);
        let rack = self.rack(name);
        !rack.is_empty() && others.into_iter().any(|other| self.rack(other) == rack)
    }

    fn wanted(&self) -> usize {
        self.rules.standbys.min(self.members.len().saturating_sub(1))
    }

    fn may_stand_by(&self, name: &str, shard: usize) -> bool {
        let owners = &self.owners[shard];
        let has_part = owners.active == name || owners.warming == name || owners.standbys.iter().any(|one| one == name);
        !has_part && self.may_hold(name, shard)
    }

    fn fill_standbys(&mut self) {
        let wanted = self.wanted();
        for shard in 0..self.owners.len() {
            while self.owners[shard].standbys.len() < wanted {
                let free = self.names().into_iter().filter(|name| self.may_stand_by(name, shard));
                let best = free.min_by_key(|name| {
                    let cold = !self.is_warm(name, shard);
                    (self.shares_rack(name, shard), cold, self.standby_count(name), name.clone())
                });
                // The one that is left warms up: it counts when it has the shard.
                let Some(chosen) = best else { break };
                self.owners[shard].standbys.push(chosen);
            }
        }
    }

    /// One more standby with who has the fewest; when it has caught up the one too many goes. A few at a time.
    fn spread_standbys(&mut self) {
        let (wanted, names) = (self.wanted(), self.names());
        if wanted == 0 {
            return;
        }
        while self.owners.iter().filter(|owners| owners.standbys.len() > wanted).count() < self.rules.moves_max {
            let Some((shard, to)) = self.better_place(&names) else { return };
            self.owners[shard].standbys.push(to);
        }
    }

    /// A standby that would lie better elsewhere: in another rack than it is, or with a member that has fewer.
    fn better_place(&self, names: &[String]) -> Option<(usize, String)> {
        let mut best = None;
        for shard in (0..self.owners.len()).filter(|shard| self.owners[*shard].standbys.len() == self.wanted()) {
            for from in &self.owners[shard].standbys {
                for to in names.iter().filter(|name| self.may_stand_by(name, shard)) {
                    let (shared, would_share) = (self.shares_rack(from, shard), self.would_share(to, from, shard));
                    let (has, would_have) = (self.standby_count(from), self.standby_count(to) + 1);
                    if (would_share, would_have) < (shared, has) {
                        let place = (would_share, would_have, shard, to.clone());
                        best = Some(best.map_or(place.clone(), |known| place.min(known)));
                    }
                }
            }
        }
        best.map(|(_, _, shard, to)| (shard, to))
    }

    /// Whether `to` in the place of `from` would share a rack.
    fn would_share(&self, to: &str, from: &str, shard: usize) -> bool {
        let owners = &self.owners[shard];
        let others = std::iter::once(&owners.active).chain(&owners.standbys).filter(|other| *other != from);
        let rack = self.rack(to);
        !rack.is_empty() && others.into_iter().any(|other| self.rack(other) == rack)
    }

    /// More standbys than wanted: when all of them have caught up, the one goes that is the least use.
    fn trim_standbys(&mut self) {
        let wanted = self.wanted();
        for shard in 0..self.owners.len() {
            while self.owners[shard].standbys.len() > wanted {
                let standbys = &self.owners[shard].standbys;
                if wanted > 0 && !standbys.iter().all(|standby| self.is_warm(standby, shard)) {
                    break;
                }
                let least = |name: &&String| (self.shares_rack(name, shard), self.standby_count(name), (*name).clone());
                let Some(going) = standbys.iter().max_by_key(least).cloned() else { break };
                self.owners[shard].standbys.retain(|standby| *standby != going);
            }
        }
    }
}

#[cfg(test)]
mod tests;
