//! Random histories against the rules that hold for every history.

use std::collections::BTreeMap;

use super::*;

/// What the producers believe: value to (was it acknowledged, may it be there).
#[derive(Default)]
struct Beliefs {
    acknowledged: Vec<String>,
    possible: Vec<String>,
}

fn transact(bench: &Bench, chance: &mut Chance, count: &mut u64, beliefs: &mut Beliefs) {
    let id = ["p", "q", "r"][chance.index(3)];
    let Ok(mut producer) = bench.log.producer(id, SOON) else {
        return;
    };
    for _ in 0..=chance.below(3) {
        if producer.begin().is_err() {
            return;
        }
        let mut values = Vec::new();
        let mut sent = Ok(());
        for _ in 0..=chance.below(3) {
            *count += 1;
            let value = format!("{id}{count}");
            let at = [bench.a0, bench.a1, bench.b0][chance.index(3)];
            sent = sent.and_then(|()| send(&mut producer, at, &value));
            values.push(value);
        }
        if chance.per_mille(150) {
            return; // The process dies.
        }
        match sent.and_then(|()| producer.commit(SOON)) {
            Ok(()) => beliefs.acknowledged.extend(values),
            Err(Fault::Discard(_)) => return beliefs.possible.extend(values),
            Err(Fault::Abort(_)) if producer.abort(SOON).is_ok() => {}
            Err(_) => return,
        }
    }
}

fn check_reads(bench: &Bench, readers: &mut BTreeMap<TopicPartition, (MemoryConsumer, Vec<String>)>) {
    for (at, (consumer, seen)) in readers {
        let Ok(more) = poll(consumer, 3) else {
            continue;
        };
        seen.extend(more);
        assert_eq!(seen.as_slice(), &bench.committed(*at)[..seen.len()], "what was read stays as it was");
    }
}

#[test]
fn every_history_keeps_the_rules() {
    for seed in 0..200 {
        let bench = bench();
        let mut chance = Chance::new(seed);
        bench.log.seed_faults(seed, Rates::ROUGH);
        let mut beliefs = Beliefs::default();
        let mut count = 0;
        let mut readers: BTreeMap<_, _> = [bench.a0, bench.a1, bench.b0]
            .iter()
            .filter_map(|at| {
                let mut consumer = bench.log.consumer("reader").unwrap();
                consumer.assign(&[(*at, 0)]).ok()?;
                Some((*at, (consumer, Vec::new())))
            })
            .collect();
        for _ in 0..40 {
            transact(&bench, &mut chance, &mut count, &mut beliefs);
            if chance.per_mille(300) {
                bench.log.deliver_late(chance.index(4));
            }
            check_reads(&bench, &mut readers);
        }
        bench.log.end_faults();
        bench.log.deliver_all();
        bench.log.expire_transactions();
        check_end(&bench, &beliefs, seed);
    }
}

fn check_end(bench: &Bench, beliefs: &Beliefs, seed: u64) {
    let mut found = Vec::new();
    for at in [bench.a0, bench.a1, bench.b0] {
        let records = bench.log.read_committed(at).unwrap();
        assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset), "seed {seed}");
        assert_eq!(bench.log.last_stable(at).unwrap(), bench.watermarks(at).1, "seed {seed}");
        found.extend(records.into_iter().map(|record| String::from_utf8(record.value.unwrap()).unwrap()));
    }
    for value in &beliefs.acknowledged {
        assert_eq!(found.iter().filter(|seen| *seen == value).count(), 1, "seed {seed}: {value} was acknowledged");
    }
    for value in &found {
        let known = beliefs.acknowledged.contains(value) || beliefs.possible.contains(value);
        assert!(known, "seed {seed}: {value} was never committed");
    }
    assert!(bench.log.misuses().is_empty(), "seed {seed}");
}
