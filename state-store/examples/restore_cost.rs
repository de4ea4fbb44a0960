//! What a bulk restore costs the store, with compactions as they come and with compactions deferred to its end.
//!
//! `restore_cost ROWS STORES`: loads that many rows into each of so many stores at once, in batches of 4 MiB as a restore
//! from the changelog does: outcomes by random ids with their index by time, and accounts over and over.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "an example measures and panics")]

use std::time::{Duration, Instant};

use state_store::{Batch, Budget, Identity, Progress, RocksStore, Store, TableId, open};

const BATCH_BYTES: usize = 4 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let (rows, stores) = (arguments.next().unwrap_or(1_000_000), arguments.next().unwrap_or(2));
    for round in 0..3 {
        for deferred in [false, true] {
            let dir = tempfile::tempdir_in(".").unwrap();
            let budget = Budget::new(24 << 20, 24 << 20);
            let opened: Vec<RocksStore> = (0..stores)
                .map(|number| open(dir.path().join(number.to_string()), &identity(), &budget).unwrap().into_store())
                .collect();
            let (began, cpu) = (Instant::now(), cpu_time());
            let loads: Vec<_> = std::thread::scope(|scope| {
                let load = |store| move || load(store, rows, deferred);
                let threads: Vec<_> = opened.iter().map(|store| scope.spawn(load(store))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let total = began.elapsed();
            let bytes: u64 = opened.iter().map(Store::approximate_bytes).sum();
            let loaded = loads.iter().max().unwrap();
            println!(
                "round {round} deferred={deferred}: {rows} rows x {stores}: loaded {} ms, settled {} ms, cpu {} ms, {} MB",
                loaded.as_millis(),
                total.as_millis(),
                (cpu_time() - cpu).as_millis(),
                bytes / 1_000_000
            );
        }
    }
}

fn load(store: &RocksStore, rows: u64, deferred: bool) -> Duration {
    let began = Instant::now();
    if deferred {
        store.defer_compactions(true).unwrap();
    }
    let (mut batch, mut state) = (Batch::new(), 0x9E37_79B9_7F4A_7C15_u64);
    let filler = [7_u8; 60];
    for number in 0..rows {
        // xorshift: ids are random.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let id = [state.to_be_bytes(), (!state).to_be_bytes()].concat();
        match number % 3 {
            0 => batch.put(TableId(3), &id, &[&id[..], &filler].concat()),
            1 => batch.put(TableId(4), &[&number.to_be_bytes()[..], &id].concat(), &id),
            _ => batch.put(TableId(1), &(state % 10_000).to_be_bytes(), &[&id[..], &filler].concat()),
        }
        if batch.bytes() > BATCH_BYTES {
            store.load(std::mem::take(&mut batch), &progress(number)).unwrap();
        }
    }
    store.load(batch, &progress(rows)).unwrap();
    let loaded = began.elapsed();
    store.flush().unwrap();
    store.defer_compactions(false).unwrap();
    loaded
}

fn progress(number: u64) -> Progress {
    Progress { changelog_offset: number as i64, commit_sequence: number, ..Progress::default() }
}

fn identity() -> Identity {
    Identity {
        application: "cost".into(),
        cluster_id: "none".into(),
        partition: 0,
        prefix: String::new(),
        check: Vec::new(),
    }
}

/// CPU time of this process, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
