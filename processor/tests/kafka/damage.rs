//! Files of a store that were damaged while nobody looked: found out, wiped once, restored, counted. Never served.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kontor_compose::eventually_some;

use crate::restore::difference;
use crate::support::{Bank, DEADLINE, Holder, Load, Processor, Rows, seed};

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One bit in every so many bytes.
    Flip(usize),
    /// One bit, this many hundredths into the file.
    FlipOne(usize),
    /// Only its first half stays.
    Halve,
    /// Nothing stays.
    Empty,
    /// Other bytes.
    Garbage,
    /// The file is gone.
    Remove,
}

/// Which files, how, and whether it cannot but be noticed at the start.
const CASES: [(&str, Damage, bool); 19] = [
    ("CURRENT", Damage::Garbage, true),
    ("CURRENT", Damage::Empty, true),
    ("CURRENT", Damage::Remove, true),
    ("MANIFEST", Damage::Flip(64), true),
    ("MANIFEST", Damage::Halve, false),
    ("MANIFEST", Damage::Empty, true),
    ("MANIFEST", Damage::Remove, true),
    (".sst", Damage::Flip(512), false),
    (".sst", Damage::FlipOne(5), false),
    (".sst", Damage::FlipOne(50), false),
    (".sst", Damage::FlipOne(90), false),
    (".sst", Damage::Halve, true),
    (".sst", Damage::Empty, true),
    (".sst", Damage::Remove, true),
    (".log", Damage::Flip(256), false),
    (".log", Damage::FlipOne(30), false),
    (".log", Damage::FlipOne(95), false),
    (".log", Damage::Halve, false),
    (".log", Damage::Remove, false),
];

#[tokio::test(flavor = "multi_thread")]
async fn f15_damaged_files_are_found_out_wiped_once_and_restored() {
    let seed = seed("damage");
    let bank = Bank::new("damage").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let mut all_sent = Load::start(&bank, &holders, 2_000, 1_000, seed).finish().await;
    bank.assert_clean().await;
    for (number, (files, damage, certain)) in CASES.into_iter().enumerate() {
        let partition = number as i32 % 4;
        all_sent.extend(one_of_each(&bank, &processor, &holders).await);
        let before = settled_rows(&processor).await;
        // A clean stop leaves all rows in tables; a kill leaves the last ones in the log.
        if files == ".log" {
            processor.kill();
        } else {
            assert_eq!(processor.terminate().await.code(), Some(0));
        }
        let store = processor.state_dir().join(format!("partition-{partition}"));
        let harmed = harm(&store, files, damage);
        assert!(harmed > 0, "{files}: there is nothing to damage in {}", store.display());
        processor.restart().await;
        let after = settled_rows(&processor).await;
        assert!(after == before, "{files} {damage:?}: {}", difference(&before, &after));
        // Commands read every account of the partition and write to it.
        all_sent.extend(one_of_each(&bank, &processor, &holders).await);
        let wipes = processor.metric("kontor_store_wipes_total").await;
        println!("{files} {damage:?}: {harmed} files, {wipes} wipes");
        let expected = if certain { 1.0..=1.0 } else { 0.0..=1.0 };
        assert!(expected.contains(&wipes), "{files} {damage:?}: {wipes} wipes; {}", processor.said());
        assert_eq!(processor.lines("wiping it").len() as f64, wipes, "each one is said");
    }
    bank.assert_clean().await;
    bank.assert_answered_once(&all_sent).await;
}

/// The history is only written by the shard, and read by those who ask: they find the damage, and the shard is told.
#[tokio::test(flavor = "multi_thread")]
async fn f15_damage_under_a_running_store_is_met_by_a_reader_and_healed() {
    let seed = seed("met");
    let bank = Bank::new("met").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let sent = Load::start(&bank, &holders, 2_000, 500, seed).finish().await;
    bank.assert_clean().await;
    let before = settled_rows(&processor).await;
    // From a start on nothing is in memory: every row is read from a table.
    assert_eq!(processor.terminate().await.code(), Some(0));
    processor.restart().await;
    let harmed = harm(&processor.state_dir().join("partition-1"), ".sst", Damage::Flip(512));
    assert!(harmed > 0);
    let met = processor.queries().try_rows().await.unwrap_err();
    assert_eq!(met.code(), tonic::Code::DataLoss, "never served: {met}");
    let after = settled_rows(&processor).await;
    assert!(after == before, "{}", difference(&before, &after));
    assert_eq!(processor.metric("kontor_store_wipes_total").await, 1.0, "{}", processor.said());
    assert_eq!(processor.lines("wiping it").len(), 1);
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

/// A payment of every holder: each answered. Their ids.
async fn one_of_each(bank: &Bank, processor: &Processor, holders: &[Holder]) -> Vec<schemas::records::Uuid> {
    let sent: Vec<_> = holders.iter().map(|holder| bank.pay(holder, "a shop", 1)).collect();
    for one in &sent {
        assert_eq!(processor.queries().reason(one).await, "");
    }
    sent.iter().map(|one| one.id).collect()
}

/// All rows, once the history is complete. A store that is found damaged by the questions themselves is restored
/// meanwhile: what is asked then is answered later, never wrongly.
async fn settled_rows(processor: &Processor) -> Rows {
    let rows = || async {
        processor.history_complete().await;
        processor.queries().try_rows().await.ok()
    };
    let read = eventually_some(DEADLINE, "every row can be read", rows).await;
    read.unwrap_or_else(|error| panic!("{error}; {}", processor.said()))
}

fn harm(store: &Path, files: &str, damage: Damage) -> usize {
    let mut harmed = 0;
    for path in named(store, files) {
        let bytes = match fs::read(&path) {
            // A store that runs merges tables away at any moment.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.unwrap(),
        };
        let harmed_bytes = match damage {
            Damage::Flip(every) => {
                bytes.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at % every == every / 2)).collect()
            }
            Damage::FlipOne(hundredths) => {
                let mut flipped = bytes.clone();
                if let Some(byte) = flipped.get_mut(bytes.len() * hundredths / 100) {
                    *byte ^= 1;
                }
                flipped
            }
            Damage::Halve => bytes[..bytes.len() / 2].to_vec(),
            Damage::Empty => Vec::new(),
            Damage::Garbage => b"MANIFEST-999999\n".to_vec(),
            Damage::Remove => {
                fs::remove_file(&path).unwrap();
                harmed += 1;
                continue;
            }
        };
        harmed += usize::from(harmed_bytes != bytes);
        fs::write(&path, harmed_bytes).unwrap();
    }
    harmed
}

fn named(store: &Path, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().contains(part)).collect()
}
