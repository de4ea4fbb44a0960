//! Examples first, then worlds in which members come, go and warm up at random.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { standbys: 1, moves_max: 2, warm_lag_max: 100 };

fn member(name: &str) -> Candidate {
    Candidate { name: name.to_owned(), ..Candidate::default() }
}

fn actives(owners: &[ShardOwners]) -> Vec<&str> {
    owners.iter().map(|owners| owners.active.as_str()).collect()
}

/// Members that do as they are told: whoever follows a shard has caught up by the next decision.
struct World {
    shards: i32,
    rules: Rules,
    members: BTreeMap<String, Candidate>,
    owners: Vec<ShardOwners>,
}

impl World {
    fn new(shards: i32, rules: Rules) -> World {
        World { shards, rules, members: BTreeMap::new(), owners: Vec::new() }
    }

    fn join(&mut self, name: &str, rack: &str) {
        let candidate = Candidate { rack: rack.to_owned(), ..member(name) };
        self.members.insert(name.to_owned(), candidate);
    }

    fn leave(&mut self, name: &str) {
        self.members.remove(name);
    }

    /// The shard cannot go on at this member.
    fn stop(&mut self, name: &str, shard: i32) {
        if let Some(member) = self.members.get_mut(name) {
            member.stopped.insert(shard);
        }
    }

    /// Operators have looked at everything.
    fn mend(&mut self) {
        self.members.values_mut().for_each(|member| member.stopped.clear());
    }

    fn live(&self) -> Vec<Candidate> {
        self.members.values().cloned().collect()
    }

    /// One decision, checked against the one before.
    fn decide(&mut self) {
        let members = self.live();
        let decided = next(&self.owners, self.shards, &members, self.rules);
        assert_eq!(decided, next(&self.owners, self.shards, &members, self.rules), "it is a function");
        self.check(&decided);
        self.owners = decided;
    }

    fn check(&self, decided: &[ShardOwners]) {
        assert_eq!(decided.len(), self.shards as usize);
        let mut moved = 0;
        for (shard, owners) in decided.iter().enumerate() {
            let able = |member: &Candidate| !member.stopped.contains(&(shard as i32));
            let lives = |name: &str| self.members.get(name).is_some_and(able);
            let nobody = owners.active.is_empty() && !self.members.values().any(able);
            assert!(nobody || lives(&owners.active), "shard {shard} has an owner that lives: {owners:?}");
            assert!(owners.warming.is_empty() || lives(&owners.warming) && owners.warming != owners.active);
            for (index, standby) in owners.standbys.iter().enumerate() {
                assert!(lives(standby) && *standby != owners.active, "{owners:?}");
                assert!(!owners.standbys[..index].contains(standby), "{owners:?}");
            }
            let Some(before) = self.owners.get(shard) else { continue };
            if lives(&before.active) && before.active != owners.active {
                moved += 1;
                assert_eq!(before.warming, owners.active, "a healthy shard goes to who warmed up for it");
                let (_, lag) = self.members[&owners.active].shards[&(shard as i32)];
                assert!((0..=self.rules.warm_lag_max).contains(&lag), "and only when it is warm");
            }
        }
        assert!(moved <= self.rules.moves_max, "{moved} moves at once");
        let warming = decided.iter().filter(|owners| !owners.warming.is_empty()).count();
        assert!(warming <= self.rules.moves_max, "{warming} moves under way");
    }

    /// Every member catches up with what it was told to hold, as far as `lag` says so.
    fn report(&mut self, mut lag: impl FnMut() -> i64) {
        for (name, member) in &mut self.members {
            let mut shards = BTreeMap::new();
            for (shard, owners) in self.owners.iter().enumerate() {
                if owners.active == *name {
                    // Who lags with what it follows is slow to run what it was given.
                    let role = if lag() > 100 { ShardRole::Restoring } else { ShardRole::Active };
                    shards.insert(shard as i32, (role, 0));
                } else if owners.warming == *name || owners.standbys.contains(name) {
                    let known = member.shards.get(&(shard as i32)).map_or(-1, |(_, lag)| *lag);
                    shards.insert(shard as i32, (ShardRole::Standby, if known == 0 { 0 } else { lag() }));
                }
            }
            member.shards = shards;
        }
    }

    /// Decides until nothing changes any more; gives the number of decisions that changed something.
    fn settle(&mut self) -> usize {
        for round in 0..1000 {
            let before = self.owners.clone();
            self.report(|| 0);
            self.decide();
            if before == self.owners {
                return round;
            }
        }
        panic!("it never comes to rest: {:?}", self.owners);
    }

    fn counts(&self, of: impl Fn(&ShardOwners, &str) -> bool) -> Vec<usize> {
        self.members.keys().map(|name| self.owners.iter().filter(|owners| of(owners, name)).count()).collect()
    }

    fn check_at_rest(&self) {
        let spread = |counts: &[usize]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
        let actives = self.counts(|owners, name| owners.active == name);
        assert!(spread(&actives) <= 1, "{actives:?}");
        let wanted = self.rules.standbys.min(self.members.len() - 1);
        for owners in &self.owners {
            assert_eq!(owners.standbys.len(), wanted, "{owners:?}");
            assert_eq!(owners.warming, "");
            let racks: Vec<_> = self.members.values().map(|member| &member.rack).collect();
            let rack = |name: &String| &self.members[name].rack;
            let elsewhere = racks.iter().any(|other| **other != *rack(&owners.active));
            if wanted == 1 && racks.iter().all(|rack| !rack.is_empty()) && elsewhere {
                assert_ne!(rack(&owners.standbys[0]), rack(&owners.active), "{owners:?}");
            }
        }
        if self.members.values().all(|member| member.rack.is_empty()) {
            let standbys = self.counts(|owners, name| owners.standbys.iter().any(|standby| standby == name));
            assert!(spread(&standbys) <= 2, "{standbys:?}");
        }
    }
}

#[test]
fn one_member_owns_everything() {
    let mut world = World::new(6, RULES);
    world.join("a", "");
    world.settle();
    assert_eq!(actives(&world.owners), ["a"; 6]);
    assert!(world.owners.iter().all(|owners| owners.standbys.is_empty()));
}

#[test]
fn without_members_nothing_changes() {
    let owners = vec![ShardOwners { active: "a".to_owned(), ..ShardOwners::default() }];
    assert_eq!(next(&owners, 1, &[], RULES), owners);
}

#[test]
fn a_second_member_warms_up_before_it_owns() {
    let mut world = World::new(6, RULES);
    world.join("a", "");
    world.settle();
    world.join("b", "");
    world.decide();
    assert_eq!(actives(&world.owners), ["a"; 6], "nothing moves at once");
    assert_eq!(world.owners.iter().filter(|owners| owners.warming == "b").count(), 2);
    // b does not catch up: it stays so.
    world.report(|| 101);
    for _ in 0..10 {
        world.decide();
        world.report(|| 101);
        assert_eq!(actives(&world.owners), ["a"; 6]);
    }
    world.report(|| 100);
    world.decide();
    assert_eq!(world.counts(|owners, name| owners.active == name), [4, 2]);
    world.settle();
    world.check_at_rest();
    assert_eq!(world.counts(|owners, name| owners.active == name), [3, 3]);
}

#[test]
fn a_shard_that_was_just_switched_is_not_switched_again() {
    // By name the newcomer comes before the one that keeps, and after it.
    for (keeper, newcomers) in [("c", ["a", "b"]), ("a", ["b", "c"]), ("b", ["a", "c"])] {
        let mut world = World::new(4, RULES);
        world.join(keeper, "");
        world.settle();
        world.join(newcomers[0], "");
        world.report(|| 0);
        world.decide();
        world.join(newcomers[1], "");
        let mut switches = [0; 4];
        for _ in 0..20 {
            let before = world.owners.clone();
            world.report(|| 0);
            world.decide();
            for (shard, count) in switches.iter_mut().enumerate() {
                *count += u32::from(before[shard].active != world.owners[shard].active);
            }
        }
        world.check_at_rest();
        assert!(switches.iter().all(|count| *count <= 1), "{keeper}: {switches:?}");
    }
}

#[test]
fn a_dead_owners_shards_go_to_their_standbys_at_once() {
    let mut world = World::new(6, RULES);
    for name in ["a", "b", "c"] {
        world.join(name, "");
    }
    world.settle();
    world.check_at_rest();
    let before = world.owners.clone();
    world.leave("b");
    world.decide();
    for (before, after) in before.iter().zip(&world.owners) {
        if before.active == "b" {
            assert_eq!(after.active, before.standbys[0], "the warm one, not an idle one");
        } else {
            assert_eq!(after.active, before.active, "the others stay");
        }
    }
    world.settle();
    world.check_at_rest();
}

#[test]
fn the_warmest_follower_takes_over_when_none_is_warm() {
    let owners = |active: &str| ShardOwners {
        active: active.to_owned(),
        standbys: vec!["b".to_owned(), "c".to_owned()],
        warming: String::new(),
    };
    let lagging = |name: &str, lag| {
        let mut candidate = member(name);
        candidate.shards.insert(0, (ShardRole::Standby, lag));
        candidate
    };
    let members = [lagging("b", 5000), lagging("c", 400), member("d")];
    assert_eq!(next(&[owners("a")], 1, &members, RULES)[0].active, "c");
    let members = [lagging("b", -1), lagging("c", 90_000), member("d")];
    assert_eq!(next(&[owners("a")], 1, &members, RULES)[0].active, "c", "unknown is colder than far behind");
}

#[test]
fn a_move_that_is_no_use_any_more_is_given_up() {
    let mut world = World::new(3, RULES);
    world.join("a", "");
    world.settle();
    world.join("b", "");
    world.decide();
    assert_eq!(world.owners.iter().filter(|owners| owners.warming == "b").count(), 1);
    world.leave("b");
    world.decide();
    assert!(world.owners.iter().all(|owners| owners.warming.is_empty()));
}

#[test]
fn standbys_lie_in_other_racks() {
    let mut world = World::new(12, RULES);
    for (name, rack) in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")] {
        world.join(name, rack);
        world.settle();
    }
    world.check_at_rest();
}

#[test]
fn a_restart_under_the_same_name_moves_nothing() {
    let mut world = World::new(6, RULES);
    for name in ["a", "b"] {
        world.join(name, "");
    }
    world.settle();
    let before = world.owners.clone();
    // It comes back before it was missed, and does not know yet how far it is.
    world.join("b", "");
    world.decide();
    assert_eq!(world.owners, before);
}

#[test]
fn a_shard_that_stopped_goes_to_who_can_hold_it_and_has_no_owner_when_nobody_can() {
    let mut world = World::new(6, RULES);
    for name in ["a", "b", "c"] {
        world.join(name, "");
    }
    world.settle();
    let owner = world.owners[0].active.clone();
    world.stop(&owner, 0);
    world.decide();
    assert_ne!(world.owners[0].active, owner, "a standby takes over at once");
    world.settle();
    assert!(world.owners[0].active != owner && !world.owners[0].standbys.contains(&owner), "it stays away");
    for name in ["a", "b", "c"] {
        world.stop(name, 0);
    }
    world.settle();
    assert_eq!(world.owners[0], ShardOwners::default());
    assert!(world.owners[1..].iter().all(|owners| !owners.active.is_empty()), "the others go on");
    world.mend();
    world.settle();
    world.check_at_rest();
}

#[derive(Clone, Debug)]
enum Happens {
    Join(usize),
    Leave(usize),
    Stop(usize, i32),
    Decide,
    Report(Vec<i64>),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        1 => (0usize..6).prop_map(Happens::Join),
        1 => (0usize..6).prop_map(Happens::Leave),
        1 => (0usize..6, 0i32..13).prop_map(|(member, shard)| Happens::Stop(member, shard)),
        4 => Just(Happens::Decide),
        4 => proptest::collection::vec(prop_oneof![Just(-1i64), Just(0), Just(100), Just(101)], 1..8).prop_map(Happens::Report),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_world_comes_to_rest_with_everything_owned_and_even(
        shards in 1i32..13, standbys in 0usize..3, moves_max in 1usize..4, racks in 0usize..4,
        events in proptest::collection::vec(happens(), 0..60),
    ) {
        let mut world = World::new(shards, Rules { standbys, moves_max, warm_lag_max: 100 });
        let rack = |index: usize| if racks == 0 { String::new() } else { format!("rack-{}", index % racks) };
        world.join("m0", &rack(0));
        for event in events {
            match event {
                Happens::Join(index) => world.join(&format!("m{index}"), &rack(index)),
                // Somebody always stays.
                Happens::Leave(index) if world.members.len() > 1 => world.leave(&format!("m{index}")),
                Happens::Leave(_) => {}
                Happens::Stop(index, shard) => world.stop(&format!("m{index}"), shard),
                Happens::Decide => world.decide(),
                Happens::Report(lags) => {
                    let mut lags = lags.into_iter().cycle();
                    world.report(|| lags.next().unwrap_or(0));
                }
            }
        }
        world.settle();
        world.mend();
        world.settle();
        world.check_at_rest();
        let rested = world.owners.clone();
        world.decide();
        prop_assert_eq!(rested, world.owners);
    }
}
