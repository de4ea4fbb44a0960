//! Bytes of a record to a fact, by the schema of its writer.
//!
//! Knows the wire formats and which records each topic may hold; refuses nothing loudly: what cannot be read becomes
//! a fact of its own, because that is for the invariants to judge.

use processor::dead_letter;
use schemas::records::{CreditRequested, CreditSettled};
use schemas::{AvroRecord, Writer};

use super::facts::{At, Fact, Topic};
use super::scope::Scope;

/// What `decode` needs of a record.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Its topic.
    pub topic: Topic,
    /// `None`: null key.
    pub key: Option<&'a [u8]>,
    /// `None`: tombstone.
    pub value: Option<&'a [u8]>,
}

/// The fact that a record states. `writer` finds the schema of an id; its error says why it cannot.
pub fn decode(raw: Raw<'_>, scope: Scope, writer: impl FnOnce(u32) -> Result<&'static Writer, String>) -> Fact {
    read(raw, scope, writer).unwrap_or_else(|why| Fact::Unreadable { why })
}

fn read(
    raw: Raw<'_>,
    scope: Scope,
    writer: impl FnOnce(u32) -> Result<&'static Writer, String>,
) -> Result<Fact, String> {
    let key = raw.key.ok_or("null key")?;
    let key = std::str::from_utf8(key).map_err(|_| "key is not UTF-8")?;
    if raw.topic != Topic::Changelog {
        let home = schemas::partition_of(key.as_bytes(), scope.partitions);
        if home != scope.partition {
            return Err(format!("its key belongs to partition {home}"));
        }
    }
    let Some(value) = raw.value else {
        return if raw.topic == Topic::Changelog { Ok(scope.tombstone(key)) } else { Err("null value".to_string()) };
    };
    let (id, datum) = schemas::unframe(value).map_err(|error| error.to_string())?;
    let datum = Datum { writer: writer(id)?, datum, scope };
    match raw.topic {
        Topic::Commands => datum.when(Scope::account_command).or_else(|| datum.when(Scope::transfer_command)),
        Topic::Transfers => {
            datum.when(Scope::in_flight::<CreditRequested>).or_else(|| datum.when(Scope::in_flight::<CreditSettled>))
        }
        Topic::AccountFeedback => datum.when(Scope::account_confirmed).or_else(|| datum.when(Scope::account_failed)),
        Topic::TransferFeedback => datum.when(Scope::transfer_confirmed).or_else(|| datum.when(Scope::transfer_failed)),
        Topic::BalanceChanged => datum.when(Scope::balance_changed),
        Topic::Changelog => datum
            .when(Scope::outcome)
            .or_else(|| datum.when(Scope::account))
            .or_else(|| datum.when(Scope::position))
            .or(Some(Ok(Fact::Other))),
        Topic::DeadLetters => None,
    }
    .unwrap_or_else(|| Err(format!("{} does not belong into {}", datum.writer.full_name, raw.topic.base())))
}

/// Where a dead letter came from. `header` finds the value of a header, `topic_named` a topic by its name in the cluster.
pub fn source_of<'a>(
    header: impl Fn(&str) -> Option<&'a [u8]>,
    topic_named: impl FnOnce(&str) -> Option<Topic>,
) -> Option<At> {
    let text = |name: &str| std::str::from_utf8(header(name)?).ok();
    let topic = topic_named(text(dead_letter::TOPIC)?)?;
    let partition = text(dead_letter::PARTITION)?.parse().ok()?;
    let offset = text(dead_letter::OFFSET)?.parse().ok()?;
    Some(At { topic, partition, offset })
}

#[derive(Clone, Copy)]
struct Datum<'a> {
    writer: &'static Writer,
    datum: &'a [u8],
    scope: Scope,
}

impl Datum<'_> {
    /// The fact when the writer wrote a `T`; `None` when it wrote something else.
    fn when<T: AvroRecord>(&self, fact: fn(&Scope, &T) -> Fact) -> Option<Result<Fact, String>> {
        if !self.writer.is::<T>() {
            return None;
        }
        let record = self.writer.decode::<T>(self.datum).map_err(|error| error.to_string());
        Some(record.map(|record| fact(&self.scope, &record)))
    }
}

#[cfg(test)]
mod tests {
    use schemas::Encoder;
    use schemas::records::ConfirmAccountCreation;

    use super::*;

    fn command(topic: Topic, key: Option<&str>, partition: i32, value: Option<&[u8]>) -> Fact {
        let raw = Raw { topic, key: key.map(str::as_bytes), value };
        decode(raw, Scope { partition, partitions: 12 }, |id| match id {
            1 => Writer::leak(1, ConfirmAccountCreation::schema_json()),
            _ => Err(format!("schema {id} is unknown")),
        })
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let record = ConfirmAccountCreation {
            id: schemas::records::Uuid([7; 16]),
            username: "somebody".to_string(),
            a_type: Default::default(),
            password_hash: None,
        };
        let mut good = Vec::new();
        Encoder::new(1).encode(&record, &mut good).unwrap();
        let home = schemas::partition_of(b"somebody", 12);
        let unknown = [&[0, 0, 0, 0, 9][..], &good[5..]].concat();
        let key = Some("somebody");
        assert!(matches!(command(Topic::Commands, key, home, Some(&good)), Fact::Command { .. }));
        for (fact, why) in [
            (command(Topic::Commands, None, home, Some(&good)), "null key"),
            (command(Topic::Commands, key, (home + 1) % 12, Some(&good)), "belongs to partition"),
            (command(Topic::Commands, key, home, None), "null value"),
            (command(Topic::Commands, key, home, Some(&unknown)), "schema 9 is unknown"),
            (command(Topic::Commands, key, home, Some(&good[..good.len() - 1])), ""),
            (command(Topic::Commands, key, home, Some(b"not framed")), ""),
            (command(Topic::Transfers, key, home, Some(&good)), "does not belong into transfers"),
        ] {
            assert!(matches!(&fact, Fact::Unreadable { why: said } if said.contains(why)), "{fact:?}, {why}");
        }
    }
}
