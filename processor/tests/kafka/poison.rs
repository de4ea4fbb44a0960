//! Records that nobody can process: to the dead letters with their reason, in the transaction that moves the position
//! on, and the partition goes on. In `transfers`, which is our own, they stop the shard instead.

use std::os::unix::process::ExitStatusExt;

use kontor_compose::eventually;
use kontor_compose::testing::Record;
use processor::dead_letter;
use schemas::records::{BalanceChanged, ConfirmMoneyTransfer};
use schemas::{AvroRecord, frame};
use tonic::Code;

use crate::support::{Bank, DEADLINE, PARTITIONS};

/// A record for `commands`, and a part of the reason that its dead letter gives.
struct Poison {
    name: &'static str,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    reason: String,
}

/// Largest value that the broker takes with its default limit, headers and framing of the batch aside.
const LARGE_BYTES: usize = 1_000_000;

fn poisons(bank: &Bank, key: &str) -> Vec<Poison> {
    let payment = ConfirmMoneyTransfer {
        id: bank.id(),
        token: String::new(),
        amount: 1,
        from: "cash".to_owned(),
        to: "x".to_owned(),
        description: String::new(),
    };
    let good = bank.encoded(&payment);
    let mut other_record = Vec::new();
    let change = BalanceChanged {
        iban: "x".to_owned(),
        new_balance: 1,
        changed_by: 1,
        from_to: "x".to_owned(),
        description: String::new(),
        transfer_id: None,
        sequence: 1,
        transaction_id: 1,
        time: 1,
    };
    bank.encoder("balance_changed").encode(&change, &mut other_record).unwrap();
    let (_, other_datum) = schemas::unframe(&other_record).unwrap();
    let mut disguised = good[..5].to_vec();
    disguised.extend_from_slice(other_datum);
    let mut unknown = Vec::new();
    frame(2_000_000_000, &mut unknown);
    let of = |name, value: Option<&[u8]>, reason: &str| Poison {
        name,
        key: Some(key.as_bytes().to_vec()),
        value: value.map(<[u8]>::to_vec),
        reason: reason.to_owned(),
    };
    let large = vec![b'x'; LARGE_BYTES];
    // Nothing is wrong with it but its size: what it turns into could be more than a producer may send.
    let wordy = ConfirmMoneyTransfer { description: "x".repeat(LARGE_BYTES / 2), ..payment };
    vec![
        of("not Avro", Some(b"{\"amount\": 1}"), "not in Confluent framing"),
        of("an empty value", Some(b""), "too short"),
        of("less than a schema id", Some(&[0, 0]), "too short"),
        of("an unknown schema id", Some(&unknown), "schema 2000000000"),
        of("another record", Some(&other_record), &format!("a {} does not belong here", BalanceChanged::full_name())),
        of("another record under the id of a command", Some(&disguised), ""),
        of("half a record", Some(&good[..good.len() / 2]), "is no nl.openweb.data.ConfirmMoneyTransfer"),
        of("more than a record", Some(&[good.as_slice(), b"more"].concat()), "4 bytes are left"),
        of("a large record", Some(&large), "is too large"),
        of("a large command", Some(&bank.encoded(&wordy)), "is too large"),
        of("a null value", None, "the value is null"),
        Poison { name: "a null key", key: None, value: Some(good.clone()), reason: "the key is null".to_owned() },
        Poison {
            name: "a key that is no text",
            key: Some(vec![0xff, 0xfe]),
            value: Some(good.clone()),
            reason: "the key is not UTF-8".to_owned(),
        },
        Poison {
            name: "the wrong partition",
            key: Some(bank.name_in((schemas::partition_of(key.as_bytes(), PARTITIONS) + 1) % PARTITIONS).into_bytes()),
            value: Some(good),
            reason: "wrong partition".to_owned(),
        },
    ]
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
}

fn header_text(record: &Record, name: &str) -> String {
    String::from_utf8_lossy(header(record, name).unwrap_or_else(|| panic!("no header {name}"))).into_owned()
}

/// The large record would not fit into a dead letter with its headers: it is cut, and said to be.
fn check_letter(letter: &Record, poison: &Poison, topic: &str, at: (i32, i64)) {
    let name = poison.name;
    assert_eq!(letter.partition, at.0, "{name}");
    assert_eq!(letter.key, poison.key, "{name}");
    let original = poison.value.as_deref().unwrap_or_default();
    let raw = letter.value.as_deref().unwrap();
    if original.len() < LARGE_BYTES {
        assert_eq!(raw, original, "{name}: raw bytes");
        assert_eq!(header(letter, dead_letter::CUT_FROM), None, "{name}");
    } else {
        assert!(raw.len() > LARGE_BYTES / 2 && original.starts_with(raw), "{name}: {} bytes", raw.len());
        assert_eq!(header_text(letter, dead_letter::CUT_FROM), LARGE_BYTES.to_string(), "{name}");
    }
    assert_eq!(header(letter, dead_letter::NULL_VALUE).is_some(), poison.value.is_none(), "{name}");
    assert_eq!(header_text(letter, dead_letter::TOPIC), topic, "{name}");
    assert_eq!(header_text(letter, dead_letter::PARTITION), at.0.to_string(), "{name}");
    assert_eq!(header_text(letter, dead_letter::OFFSET), at.1.to_string(), "{name}");
    assert!(!header_text(letter, dead_letter::EXCEPTION).is_empty(), "{name}");
    let message = header_text(letter, dead_letter::MESSAGE);
    assert!(message.contains(&poison.reason), "{name}: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_e13_poison_becomes_dead_letters_and_the_partition_goes_on() {
    let bank = Bank::new("poison").await;
    let mut processor = bank.run().await;
    let topic = bank.space.topic("commands");
    let mut good = 0;
    let mut sent = Vec::new();
    for partition in [1, 2] {
        let holder = bank.holder(&processor, partition, 10_000).await;
        for poison in poisons(&bank, &holder.username) {
            let (key, value) = (poison.key.as_deref(), poison.value.as_deref());
            let at = bank.sender.send_to(&topic, Some(partition), key, value, &[]).unwrap();
            // The command behind it is answered, whatever it was.
            let after = bank.pay(&holder, "a shop", 1);
            good += 1;
            assert_eq!(processor.queries().reason(&after).await, "", "behind {}", poison.name);
            sent.push((poison, at));
        }
        assert_eq!(processor.queries().balance(&holder.iban).await, 10_000 - good / i64::from(partition));
    }
    assert_eq!(processor.metric("kontor_dead_letters_total").await, sent.len() as f64);
    bank.assert_clean().await;
    let letters = bank.space.read("dead_letters").await.unwrap();
    assert_eq!(letters.len(), sent.len(), "one for each");
    for (poison, at) in &sent {
        let offset = at.1.to_string();
        let letter = letters
            .iter()
            .find(|one| one.partition == at.0 && header(one, dead_letter::OFFSET) == Some(offset.as_bytes()));
        check_letter(letter.unwrap_or_else(|| panic!("no letter for {}", poison.name)), poison, &topic, *at);
    }
    // They are behind the position: a restart does not see them again.
    processor.kill();
    processor.restart().await;
    bank.assert_clean().await;
    assert_eq!(processor.metric("kontor_dead_letters_total").await, 0.0);
}

/// Ten times what fits into a dead letter, and far more than the processor asks for at once.
const HUGE_BYTES: usize = 10_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_record_of_10_mb_becomes_one_dead_letter_and_the_partition_goes_on() {
    let bank = Bank::with_setting("huge", "commands", ("max.message.bytes", "12000000")).await;
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 1, 10_000).await;
    // Nothing is wrong with it but its size.
    let payment = bank.payment(&holder, "a shop", 1);
    let huge = bank.encoded(&ConfirmMoneyTransfer { description: "x".repeat(HUGE_BYTES), ..payment });
    let (topic, key) = (bank.space.topic("commands"), holder.username.as_bytes());
    let (partition, offset) = bank.sender.send_to(&topic, Some(1), Some(key), Some(&huge), &[]).unwrap();
    for life in 1..=2 {
        let after = bank.pay(&holder, "a shop", 1);
        assert_eq!(processor.queries().reason(&after).await, "", "behind it");
        assert_eq!(processor.queries().balance(&holder.iban).await, 10_000 - life);
        bank.assert_clean().await;
        let letters = bank.space.read("dead_letters").await.unwrap();
        assert_eq!(letters.len(), 1, "life {life}");
        let (letter, raw) = (&letters[0], letters[0].value.as_deref().unwrap());
        assert_eq!((letter.partition, letter.key.as_deref()), (partition, Some(key)));
        assert!(raw.len() > LARGE_BYTES / 2 && huge.starts_with(raw), "{} bytes", raw.len());
        assert_eq!(header_text(letter, dead_letter::CUT_FROM), huge.len().to_string());
        assert_eq!(header_text(letter, dead_letter::TOPIC), topic);
        assert_eq!(header_text(letter, dead_letter::PARTITION), partition.to_string());
        assert_eq!(header_text(letter, dead_letter::OFFSET), offset.to_string());
        let reason = header_text(letter, dead_letter::MESSAGE);
        assert!(reason.contains("is too large"), "{reason}");
        processor.kill();
        processor.restart().await;
    }
    // Half of a record is nobody's command.
    let (code, _, told) = bank.tool(&["dead-letters", "replay"]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("0 of 1 matching letters replayed; 1 left out because they were cut"), "{told}");
}

/// Killed before and after the commit of a batch of poison: the letter and the position are in one transaction, so
/// there is one letter for each record, never none and never two.
#[tokio::test(flavor = "multi_thread")]
async fn f17_dead_letters_and_position_commit_together() {
    let bank = Bank::new("letters").await;
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 1, 10_000).await;
    let topic = bank.space.topic("commands");
    let mut expected = 0;
    for crash_at in ["after-stage", "after-produce", "during-commit", "after-commit", "after-batch"] {
        processor.kill();
        for poison in poisons(&bank, &holder.username) {
            let (key, value) = (poison.key.as_deref(), poison.value.as_deref());
            bank.sender.send_to(&topic, Some(1), key, value, &[]).unwrap();
            expected += 1;
        }
        let sent = bank.pay(&holder, "a shop", 1);
        // Both shards claim first; the batch of this one is the third transaction, or the second after-batch.
        let mut crashing = bank.launch_to_crash("p1", &format!("{crash_at}:3"));
        assert_eq!(crashing.end().await.signal(), Some(9), "{crash_at}: {}", crashing.said());
        processor = bank.run().await;
        assert_eq!(processor.queries().reason(&sent).await, "", "{crash_at}");
        bank.assert_clean().await;
        let letters = bank.space.read("dead_letters").await.unwrap();
        assert_eq!(letters.len(), expected, "{crash_at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_an_unreadable_record_in_transfers_stops_its_shard_loudly() {
    let bank = Bank::new("in-flight").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 1, 1_000).await;
    bank.assert_clean().await;
    let topic = bank.space.topic("transfers");
    let (_, offset) = bank.sender.send_to(&topic, Some(1), Some(b"x"), Some(b"not ours"), &[]).unwrap();
    for life in 0..2 {
        if life > 0 {
            // An operator must act: a restart alone changes nothing.
            processor.kill();
            processor.launch_again();
        }
        let stopped = || async { !processor.lines("stopped; needs an operator").is_empty() };
        eventually(DEADLINE, "the shard stops", stopped).await.unwrap();
        let lines = processor.lines("stopped; needs an operator");
        assert_eq!(lines.len(), 1, "{lines:?}");
        let place = format!("{topic}-1 offset {offset}");
        assert!(lines[0].contains("shard=1") && lines[0].contains(&place), "{}", lines[0]);
        // Its partitions are gone, those of the other shard go on.
        let gone_and_there = || async { processor.states().await == ["running", "stopped", "running", "stopped"] };
        eventually(DEADLINE, "one shard stopped, the other runs", gone_and_there).await.unwrap();
        assert_eq!((processor.status("/readyz").await, processor.status("/livez").await), (503, 200));
        for partition in [1, 3] {
            let refused = processor.queries().get(partition, "account", b"x").await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(refused.message().contains(&place), "{refused}");
        }
        for partition in [0, 2] {
            let holder = &holders[partition];
            assert_eq!(processor.queries().reason(&bank.pay(holder, "a shop", 1)).await, "");
        }
    }
    // Not a dead letter; and the audit names the record as the breach that it is.
    assert!(bank.space.read("dead_letters").await.unwrap().is_empty());
    let (code, said) = bank.audit_now().await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("transfers-1@{offset}: ")), "{said}");
}
