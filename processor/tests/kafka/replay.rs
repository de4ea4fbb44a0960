//! `processor dead-letters`: what could not be processed is listed, and brought back once its cause is gone.
//!
//! The cause here is a schema that nobody has registered yet. The registry gives ids in ascending order, so a command
//! can be sent under an id that is still to come. Other tests take ids meanwhile: one that went to another is tried
//! anew.

use kontor_compose::eventually_some;
use kontor_compose::testing::Record;
use processor::dead_letter;
use schemas::records::{ConfirmMoneyTransfer, Uuid};
use schemas::{Encoder, fingerprint};

use crate::support::{Bank, DEADLINE, Holder, Sent};

/// Cents of the command that becomes a letter.
const AMOUNT: i64 = 100;
/// How far behind the newest id the unknown one lies: far enough for what others register while its letter is written.
const IDS_AHEAD: u32 = 8;
/// Commands that are sent before the test gives up to get the id of one.
const ATTEMPTS: usize = 20;

/// A command that was unknown when it was processed, and whose schema is registered now.
struct Cured {
    sent: Sent,
    /// Where it lies in `commands`.
    at: (i32, i64),
    schema: u32,
}

/// A schema of its own: with one more field, since the registry gives the same id to schemas that differ in words alone.
async fn register_variant(bank: &Bank, number: usize) -> u32 {
    bank.register_transfer_with(&format!("variant_{number}")).await
}

/// Registers variants until one has this id. False: it is another's.
async fn register_as(bank: &Bank, schema: u32, variants: &mut impl Iterator<Item = usize>) -> bool {
    for number in variants.take(2 * IDS_AHEAD as usize) {
        let id = register_variant(bank, number).await;
        if id >= schema {
            return id == schema;
        }
    }
    panic!("the ids of the registry do not rise");
}

async fn cured_command(bank: &Bank, holder: &Holder) -> Cured {
    let mut variants = 0..;
    for attempt in 1..=ATTEMPTS {
        let newest = register_variant(bank, variants.next().unwrap()).await;
        let schema = newest + IDS_AHEAD;
        let command = bank.payment(holder, "a shop", AMOUNT);
        let mut value = Vec::new();
        Encoder::<ConfirmMoneyTransfer>::new(schema).encode(&command, &mut value).unwrap();
        // The text that a variant has more: empty.
        value.push(0);
        let at = bank.send(&holder.username, &value);
        let written = || async { letters(bank).await.into_iter().find(|letter| is_of(letter, at)) };
        eventually_some(DEADLINE, "the dead letter", written).await.unwrap();
        if register_as(bank, schema, &mut variants).await {
            let sent = Sent { id: command.id, fingerprint: fingerprint::transfer(&command), partition: at.0 };
            return Cured { sent, at, schema };
        }
        println!("attempt {attempt}: schema {schema} went to another test");
    }
    panic!("{ATTEMPTS} ids went to other tests");
}

async fn letters(bank: &Bank) -> Vec<Record> {
    bank.space.read("dead_letters").await.unwrap()
}

fn is_of(letter: &Record, (partition, offset): (i32, i64)) -> bool {
    let offset = offset.to_string().into_bytes();
    letter.partition == partition
        && letter.headers.iter().any(|(name, value)| name == dead_letter::OFFSET && *value == offset)
}

/// Sends the letter of the record there again.
async fn replay(bank: &Bank, (partition, offset): (i32, i64)) -> (i32, String, String) {
    let (partition, offset) = (partition.to_string(), offset.to_string());
    bank.tool(&["dead-letters", "replay", "--from", "commands", "--partition", &partition, "--offset", &offset]).await
}

async fn answers_to(bank: &Bank, id: Uuid) -> usize {
    bank.transfer_feedback().await.into_iter().filter(|answer| answer.id == id).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn e13_a_letter_is_listed_and_replay_brings_it_back_once() {
    let bank = Bank::new("replay").await;
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 1, 1_000).await;
    let Cured { sent, at, schema } = cured_command(&bank, &holder).await;
    let written = letters(&bank).await.len();

    let (code, listed, _) = bank.tool(&["dead-letters", "list", "--json"]).await;
    assert_eq!(code, 0, "{listed}");
    let lines: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), written, "{listed}");
    let line = lines.iter().find(|line| line["partition"] == at.0 && line["offset"] == at.1).unwrap();
    assert_eq!(line["topic"], bank.space.topic("commands"));
    assert!(line["reason"].as_str().unwrap().contains(&format!("schema {schema}")), "{line}");
    assert_eq!(answers_to(&bank, sent.id).await, 0);
    assert_eq!(processor.queries().balance(&holder.iban).await, 1_000);

    // A processor believes for half a minute that a schema is unknown; a new one asks.
    assert_eq!(processor.terminate().await.code(), Some(0));
    processor.restart().await;
    let (code, shown, told) = replay(&bank, at).await;
    assert_eq!((code, shown.lines().count()), (0, 1), "{shown}{told}");
    assert!(told.contains("1 of 1 matching letters replayed"), "{told}");
    assert_eq!(processor.queries().reason(&sent).await, "");
    assert_eq!(processor.queries().balance(&holder.iban).await, 1_000 - AMOUNT);
    bank.assert_clean().await;
    assert_eq!(answers_to(&bank, sent.id).await, 1);
    assert_eq!(bank.changes_of(sent.id).await.len(), 1);

    // Again: it is answered again, and nothing moves. The command behind it says that it was processed.
    let (code, _, told) = replay(&bank, at).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(processor.queries().reason(&bank.pay(&holder, "a shop", 1)).await, "");
    assert_eq!(processor.queries().balance(&holder.iban).await, 1_000 - AMOUNT - 1);
    bank.assert_clean().await;
    assert_eq!(answers_to(&bank, sent.id).await, 2);
    assert_eq!(bank.changes_of(sent.id).await.len(), 1);
    assert_eq!(letters(&bank).await.len(), written, "no new letter");

    // Where ids are remembered for a moment only, nothing may be sent any more, and that is no success.
    let (code, shown, told) = bank.tool(&["dead-letters", "replay", "--outcome-retention-hours", "1e-9"]).await;
    assert_eq!((code, shown.as_str()), (1, ""), "{told}");
    assert!(told.contains("older than command ids are remembered") && told.contains("; nothing was sent"), "{told}");

    let (code, _, told) = replay(&bank, (at.0, i64::MAX)).await;
    assert_eq!(code, 2, "no letter is of there: {told}");
}
