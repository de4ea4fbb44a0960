//! What a commit costs: nanoseconds per row for batches of several sizes, in memory and on disk, and what twelve
//! loaded stores hold of memory. Prints a table; nothing is asserted, since the numbers belong to the machine.
//!
//! `cargo run --release -p state-store --example commit_cost [directory]`
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use state_store::{Budget, Identity, MemoryStore, Overlay, RocksStore, ScanRange, Store, StoreError, TableId, open};

const ACCOUNTS: TableId = TableId(1);
const MIB: usize = 1 << 20;
/// Rows written per measured batch size.
const ROWS: usize = 200_000;
/// Distinct keys of one store.
const KEYS: usize = 100_000;
const PARTITIONS: i32 = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into).join("commit_cost");
    state_store::wipe(&directory)?;
    let budget = Budget::new(64 * MIB, 32 * MIB);
    let stores = (0..PARTITIONS)
        .map(|partition| Ok(open(directory.join(partition.to_string()), &identity(partition), &budget)?.into_store()))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    println!("{} empty stores: {} MiB resident", stores.len(), resident_mib());

    println!("{:>8} {:>12} {:>12} {:>12}", "batch", "overlay ns", "memory ns", "disk ns");
    for rows_per_batch in [1, 10, 100, 1_000, 5_000] {
        let (overlay, memory) = cost(&MemoryStore::new(), rows_per_batch)?;
        let (_, disk) = cost(&stores[0], rows_per_batch)?;
        println!("{rows_per_batch:>8} {overlay:>12.0} {memory:>12.0} {disk:>12.0}");
    }
    read_cost(&stores[0])?;

    for store in &stores {
        cost(store, 1_000)?;
    }
    let bytes: u64 = stores.iter().map(Store::approximate_bytes).sum();
    println!(
        "{} stores with {} MiB of rows: {} MiB resident, cache {} MiB, write buffers {} MiB",
        stores.len(),
        bytes >> 20,
        resident_mib(),
        budget.used_bytes() / MIB,
        budget.write_buffer_bytes() / MIB,
    );
    let stores = reopen_cost(stores, &directory, &budget, "without a flush")?;
    stores.iter().try_for_each(Store::flush)?;
    reopen_cost(stores, &directory, &budget, "after a flush")?;
    Ok(state_store::wipe(&directory)?)
}

/// Nanoseconds per row for staging in the overlay and for the commit.
fn cost(store: &dyn Store, rows_per_batch: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let mut overlay = Overlay::new();
    let mut progress = store.progress()?;
    progress.next_offset = [("commands".to_owned(), 0), ("transfers".to_owned(), 0)].into();
    let (mut staging, mut committing) = (0, 0);
    // The memory store copies nothing without snapshots, so small batches of it are as many as on disk.
    let batches = (ROWS / rows_per_batch).min(20_000);
    for batch in 0..batches {
        let started = Instant::now();
        for row in 0..rows_per_batch {
            let number = (batch * rows_per_batch + row).wrapping_mul(7_919);
            overlay.put(ACCOUNTS, &key(number), &[number as u8; 100]);
        }
        staging += started.elapsed().as_nanos();
        let started = Instant::now();
        progress.commit_sequence += 1;
        store.commit(overlay.to_batch(), &progress)?;
        committing += started.elapsed().as_nanos();
        overlay.clear();
    }
    let rows = (batches * rows_per_batch) as f64;
    Ok((staging as f64 / rows, committing as f64 / rows))
}

fn read_cost(store: &dyn Store) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let found =
        (0..KEYS).filter(|number| store.get(ACCOUNTS, &key(number * 31)).is_ok_and(|row| row.is_some())).count();
    println!("get: {} ns, {found} of {KEYS} found", started.elapsed().as_nanos() / KEYS as u128);
    let started = Instant::now();
    let rows = store.snapshot()?.scan(ACCOUNTS, &ScanRange::all())?.rows.len();
    println!("scan: {} ns per row, {rows} rows", started.elapsed().as_nanos() / rows.max(1) as u128);
    let started = Instant::now();
    for _ in 0..1_000 {
        store.progress()?;
    }
    println!("progress: {} ns", started.elapsed().as_nanos() / 1_000);
    let started = Instant::now();
    for _ in 0..1_000 {
        store.snapshot()?.commit_sequence()?;
    }
    println!("snapshot with commit sequence: {} ns", started.elapsed().as_nanos() / 1_000);
    Ok(())
}

fn reopen_cost(
    stores: Vec<RocksStore>,
    directory: &Path,
    budget: &Budget,
    how: &str,
) -> Result<Vec<RocksStore>, Box<dyn Error>> {
    drop(stores);
    let started = Instant::now();
    let open = |partition| open(directory.join(i32::to_string(&partition)), &identity(partition), budget);
    let stores: Vec<_> =
        (0..PARTITIONS).map(|partition| Ok(open(partition)?.into_store())).collect::<Result<_, StoreError>>()?;
    println!("reopen of {} stores {how}: {} ms", stores.len(), started.elapsed().as_millis());
    Ok(stores)
}

fn key(number: usize) -> Vec<u8> {
    format!("NL66OPEN{:010}", number % KEYS).into_bytes()
}

fn identity(partition: i32) -> Identity {
    Identity {
        application: "example".into(),
        cluster_id: "none".into(),
        partition,
        prefix: String::new(),
        check: Vec::new(),
        earlier_checks: Vec::new(),
    }
}

/// Resident memory of this process, 0 where the system does not say.
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) / 1024
}
