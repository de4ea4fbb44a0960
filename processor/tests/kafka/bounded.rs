//! State that is larger than the memory for it: the stores are on disk, and what is held of them is bounded.

use std::collections::BTreeMap;
use std::path::Path;

use kontor_compose::testing::{ServiceBuilder, eventually_some};

use crate::support::{Bank, DEADLINE, Load, Processor, Usage, seed};

/// Memory of all stores together, for blocks and for what is not flushed yet.
const CACHE_MIB: u64 = 1;
const BUFFERS_MIB: u64 = 1;
/// Descriptions make the state large: as long as the bank takes them, of random characters of four bytes each.
const LETTERS: usize = 140;
const TRANSFERS: u64 = 40_000;
/// The state is so many times larger than its memory, at least.
const TIMES: u64 = 10;

fn small(builder: ServiceBuilder) -> ServiceBuilder {
    let builder = builder.env("KONTOR_BLOCK_CACHE_MIB", CACHE_MIB.to_string());
    builder.env("KONTOR_WRITE_BUFFERS_MIB", BUFFERS_MIB.to_string())
}

/// Bytes of the files below a directory.
fn size_of(dir: &Path) -> u64 {
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of(&entry.path()),
        Ok(meta) => meta.len(),
        // RocksDB removed it meanwhile.
        Err(_) => 0,
    };
    std::fs::read_dir(dir).unwrap().flatten().map(size).sum()
}

/// What the stores may hold in memory, MiB: pinned blocks and buffers that are being flushed come on top; the state itself
/// does not.
const HELD_MIB_MAX: f64 = 3.0 * (CACHE_MIB + BUFFERS_MIB) as f64;

/// What the stores hold in memory, MiB.
async fn held_mib(processor: &Processor) -> f64 {
    processor.metric("kontor_store_memory_bytes").await / f64::from(1 << 20)
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_e12_state_that_is_larger_than_its_memory_runs_and_is_restored() {
    let seed = seed("bounded");
    let bank = Bank::new("bounded").await;
    let mut processor = bank.launch("p1", small);
    processor.ready().await;
    let holders = bank.holders(&processor, 3, 100_000_000).await;
    let before = Usage::of(processor.pid());
    let mut load = Load::with_descriptions(&bank, &holders, (100_000, TRANSFERS), seed, LETTERS);
    let sent = load.finish().await;
    bank.assert_clean().await;
    processor.history_complete().await;
    let rows = processor.queries().rows().await;
    let state_mib = size_of(&processor.state_dir()) >> 20;
    let (held, usage) = (held_mib(&processor).await, Usage::of(processor.pid()));
    println!("{state_mib} MiB of state, {held:.1} MiB held of it; process before {before}, after {usage}");
    assert!(
        state_mib >= TIMES * (CACHE_MIB + BUFFERS_MIB),
        "the state of {state_mib} MiB is too small to show anything"
    );
    assert!(held < HELD_MIB_MAX, "{held:.1} MiB of the state are held in memory");

    processor.kill();
    std::fs::remove_dir_all(processor.state_dir()).unwrap();
    let took = processor.restart().await;
    processor.history_complete().await;
    // A restore fills buffers faster than they are flushed: two for each store, then a write waits.
    let flushed = async || Some(held_mib(&processor).await).filter(|held| *held < HELD_MIB_MAX);
    let held = eventually_some(DEADLINE, "the state is not held in memory", flushed).await.unwrap();
    let usage = Usage::of(processor.pid());
    println!("restored in {} ms; {held:.1} MiB held; {usage}", took.as_millis());
    let again = processor.queries().rows().await;
    let differs: BTreeMap<_, _> = rows.iter().filter(|(key, row)| again.get(*key) != Some(row)).take(1).collect();
    assert!(differs.is_empty() && again.len() == rows.len(), "restored otherwise: {:?}", differs.keys().next());
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}
