//! Many seeds of the ledger, calm and rough.

use std::collections::BTreeSet;

use super::harness::{Run, run};
use super::ledger::{OUTCOMES, TOMBSTONE_RETENTION};
use crate::log::memory::Rates;
use crate::probe::Step;
use crate::testing::{Conditions, for_each_seed};

#[test]
fn a_calm_run_gives_what_is_expected() {
    let run = run(1, Conditions::CALM).unwrap();
    assert!(run.simulation.deaths().is_empty());
    run.check().unwrap();
}

#[test]
fn no_schedule_loses_or_doubles_anything() {
    for_each_seed(300, |seed| {
        run(seed, Conditions::ROUGH).and_then(Run::check).unwrap_or_else(|breach| panic!("{breach}"));
    });
}

#[test]
fn deaths_alone_change_nothing() {
    let deadly = Conditions { log: Rates::NONE, store_faults: 0, deaths: 200, ..Conditions::ROUGH };
    for_each_seed(60, |seed| {
        run(seed, deadly).and_then(Run::check).unwrap_or_else(|breach| panic!("{breach}"));
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3] {
        let traces = [(); 2].map(|()| {
            let run = run(seed, Conditions::ROUGH).unwrap();
            (run.simulation.log().digest(), run.simulation.trace().to_vec())
        });
        assert!(!traces[0].1.is_empty());
        assert_eq!(traces[0], traces[1]);
    }
    let other = run(4, Conditions::ROUGH).unwrap().simulation.log().digest();
    assert_ne!(run(5, Conditions::ROUGH).unwrap().simulation.log().digest(), other);
}

#[test]
fn workers_die_at_every_step_of_the_commit_path() {
    let mut seen = BTreeSet::new();
    let deadly = Conditions { deaths: 300, ..Conditions::ROUGH };
    for seed in 0..60 {
        seen.extend(run(seed, deadly).unwrap().simulation.deaths().keys().copied());
    }
    let missed: Vec<_> = Step::ALL.iter().map(|step| step.name()).filter(|step| !seen.contains(step)).collect();
    assert!(missed.is_empty(), "nobody died at {missed:?}");
    for step in ["after init", "after send", "before commit", "after commit", "before batch", "after batch"] {
        assert!(seen.contains(step), "nobody died at {step}");
    }
}

#[test]
fn f20_a_store_that_missed_tombstones_is_restored_from_nothing() {
    let two = Conditions { instances: 2, ..Conditions::CALM };
    let mut run = run(1, two).unwrap();
    run.simulation.restore_all(0).unwrap();
    assert!(!run.simulation.rows(OUTCOMES).unwrap().is_empty());
    // While instance 0 is away all of its outcomes leave, and later their tombstones too.
    run.simulation.restore_all(1).unwrap();
    run.expire_outcomes().unwrap();
    run.simulation.compact_all().unwrap();
    run.simulation.clock().advance(TOMBSTONE_RETENTION);
    // The stores are compared with the topics here: an outcome that lives again is a breach.
    run.simulation.restore_all(0).unwrap();
    assert!(run.simulation.rows(OUTCOMES).unwrap().is_empty());
}
