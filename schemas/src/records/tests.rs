//! Every record through every form: Avro with framing, local rows, damaged bytes, and the shapes of before and after.

use std::fmt::Debug;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

use super::{samples::*, *};
use crate::{DecodeError, Encoder, Writer, unframe};

fn writer_of<T: AvroRecord>() -> &'static Writer {
    Writer::leak(7, T::schema_json()).unwrap()
}

fn encoded<T: AvroRecord>(record: &T) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::<T>::new(7).encode(record, &mut out).unwrap();
    out
}

/// Through Avro and back, through a local row and back; then every damage of which bytes are capable.
fn survives<T: AvroRecord + PartialEq + Debug>(record: &T) {
    let value = encoded(record);
    let (id, datum) = unframe(&value).unwrap();
    assert_eq!(id, 7);
    let writer = writer_of::<T>();
    assert_eq!(&writer.decode::<T>(datum).unwrap(), record);

    // Avro says the same as the Java libraries would: the tree of values resolves to the reader's own schema.
    let tree = GenericDatumReader::builder(T::schema()).build().unwrap().read_value(&mut &datum[..]).unwrap();
    assert!(tree.validate(T::schema()), "{tree:?}");

    let row = bincode::serde::encode_to_vec(record, bincode::config::standard()).unwrap();
    let (back, used) = bincode::serde::decode_from_slice::<T, _>(&row, bincode::config::standard()).unwrap();
    assert_eq!((&back, used), (record, row.len()));

    for cut in 0..datum.len() {
        let error = writer.decode::<T>(&datum[..cut]).unwrap_err();
        assert!(matches!(error, DecodeError::Datum { .. }), "cut at {cut}: {error}");
    }
    let mut long = datum.to_vec();
    long.push(0);
    assert!(matches!(writer.decode::<T>(&long), Err(DecodeError::Trailing { left: 1, .. })));
}

#[test]
fn every_record_survives_avro_and_local_rows() {
    survives(&confirm_account_creation());
    survives(&ConfirmAccountCreation { password_hash: None, a_type: Atype::Manual, ..confirm_account_creation() });
    survives(&account_creation_confirmed());
    survives(&account_creation_failed());
    survives(&confirm_money_transfer());
    survives(&MoneyTransferConfirmed { id: ID });
    survives(&MoneyTransferFailed { id: ID, reason: "insufficient funds".to_owned() });
    survives(&balance_changed());
    survives(&BalanceChanged { transfer_id: None, ..balance_changed() });
    survives(&Heartbeat { beat: -3 });
    survives(&credit_requested());
    survives(&credit_settled());
    survives(&CreditSettled { accepted: false, reason: None, ..credit_settled() });
    survives(&account());
    survives(&user());
    survives(&User { password_hash: None, ibans: Vec::new(), ..user() });
    survives(&outcome());
    for state in [OutcomeState::Pending, OutcomeState::Confirmed] {
        survives(&Outcome { state, kind: OutcomeKind::Account, reason: None, iban: None, ..outcome() });
    }
    survives(&position());
    survives(&Position::default());
    survives(&owner());
    survives(&member());
    survives(&Member { rack: String::new(), shards: Vec::new(), stopped: Vec::new(), ..member() });
    survives(&assignment());
    survives(&Assignment::default());
}

#[test]
fn encoding_appends_and_leaves_what_was_there() {
    let mut out = b"before".to_vec();
    Encoder::<Heartbeat>::new(0x0a0b_0c0d).encode(&Heartbeat { beat: 3 }, &mut out).unwrap();
    assert_eq!(out, b"before\x00\x0a\x0b\x0c\x0d\x06");
}

#[test]
fn another_record_is_refused_by_name() {
    let value = encoded(&account_creation_failed());
    let (_, datum) = unframe(&value).unwrap();
    // The same fields under another name: only the name tells them apart.
    let error = writer_of::<AccountCreationFailed>().decode::<MoneyTransferFailed>(datum).unwrap_err();
    assert!(matches!(&error, DecodeError::OtherRecord { .. }));
    assert_eq!(
        error.to_string(),
        "schema 7 is of nl.openweb.data.AccountCreationFailed, expected nl.openweb.data.MoneyTransferFailed"
    );
}

#[test]
fn what_is_no_record_schema_is_refused() {
    for text in ["", "{", "\"long\"", r#"{"type":"record","name":"X","fields":[{"name":"a","type":"Absent"}]}"#] {
        Writer::leak(1, text).unwrap_err();
    }
}

#[test]
fn names_agree_with_the_files_and_everything_is_documented() {
    assert_eq!(RECORD_TYPES.len(), std::fs::read_dir("avro").unwrap().count());
    for record in RECORD_TYPES {
        let Schema::Record(schema) = (record.schema)() else { panic!("{record:?} is no record") };
        assert_eq!(schema.name.to_string(), record.full_name);
        assert_eq!(record_type(record.name), Some(record));
        assert_eq!(record_type(record.full_name), Some(record));
        assert!(schema.doc.as_ref().is_some_and(|doc| doc.ends_with('.')), "{record:?} has no doc");
        for field in &schema.fields {
            assert!(field.doc.as_ref().is_some_and(|doc| doc.ends_with('.')), "{record:?}.{} has no doc", field.name);
        }
    }
    assert_eq!(record_type("Nothing"), None);
}

/// The first shape of each record that others know: the fields that we added are not in it.
fn first_shapes() -> Vec<serde_json::Value> {
    serde_json::from_str(include_str!("../../tests/first_shapes.json")).unwrap()
}

fn first_shape(name: &str) -> String {
    first_shapes().into_iter().find(|shape| shape["name"] == name).unwrap().to_string()
}

/// `record`, written by us, as a consumer that knows only the first shape resolves it; and a first-shape record of
/// the same values as we read it.
fn both_ways<T: AvroRecord + Debug>(record: &T) -> T {
    let first_json = first_shape(T::NAME);
    let first = Schema::parse_str(&first_json).unwrap();
    SchemaCompatibility::mutual_read(T::schema(), &first).unwrap();

    let value = encoded(record);
    let (_, datum) = unframe(&value).unwrap();
    let reader = GenericDatumReader::builder(T::schema()).reader_schema(&first).build().unwrap();
    let theirs = reader.read_value(&mut &datum[..]).unwrap();
    let Value::Record(fields) = &theirs else { panic!("{theirs:?}") };
    let Schema::Record(shape) = &first else { panic!("{first:?}") };
    assert_eq!(fields.len(), shape.fields.len());

    let mut old = Vec::new();
    GenericDatumWriter::builder(&first).build().unwrap().write_value_ref(&mut old, &theirs).unwrap();
    Writer::leak(8, &first_json).unwrap().decode::<T>(&old).unwrap()
}

#[test]
fn records_of_the_first_shape_are_read_both_ways() {
    let ours = confirm_account_creation();
    let read = both_ways(&ours);
    assert_eq!(read, ConfirmAccountCreation { a_type: Atype::Manual, password_hash: None, ..ours });

    let ours = account_creation_confirmed();
    assert_eq!(both_ways(&ours), AccountCreationConfirmed { a_type: Atype::Manual, ..ours });

    let ours = balance_changed();
    let read = both_ways(&ours);
    assert_eq!(read, BalanceChanged { transfer_id: None, sequence: 0, transaction_id: 0, time: 0, ..ours });

    assert_eq!(both_ways(&account_creation_failed()), account_creation_failed());
    assert_eq!(both_ways(&confirm_money_transfer()), confirm_money_transfer());
    assert_eq!(both_ways(&MoneyTransferConfirmed { id: ID }), MoneyTransferConfirmed { id: ID });
    assert_eq!(both_ways(&Heartbeat { beat: 9 }), Heartbeat { beat: 9 });
    let failed = MoneyTransferFailed { id: ID, reason: "insufficient funds".to_owned() };
    assert_eq!(both_ways(&failed), failed);
    // Every first shape was in turn.
    assert_eq!(first_shapes().len(), 8);
}

/// A newer writer's fields are skipped, whatever they are.
#[test]
fn fields_of_a_later_shape_are_skipped() {
    let later_json = r#"{"type":"record","name":"Heartbeat","namespace":"nl.openweb.data","fields":[
        {"name":"mood","type":{"type":"enum","name":"Mood","symbols":["GOOD","BAD"]},"default":"GOOD"},
        {"name":"who","type":["null",{"type":"fixed","name":"Uuid","size":16}],"default":null},
        {"name":"beat","type":"long"},
        {"name":"notes","type":{"type":"map","values":{"type":"array","items":"string"}},"default":{}}]}"#;
    let later = Schema::parse_str(later_json).unwrap();
    let value = Value::Record(vec![
        ("mood".to_owned(), Value::Enum(1, "BAD".to_owned())),
        ("who".to_owned(), Value::Union(1, Box::new(Value::Fixed(16, vec![1; 16])))),
        ("beat".to_owned(), Value::Long(5)),
        (
            "notes".to_owned(),
            Value::Map([("a".to_owned(), Value::Array(vec![Value::String("b".to_owned())]))].into_iter().collect()),
        ),
    ]);
    let mut datum = Vec::new();
    GenericDatumWriter::builder(&later).build().unwrap().write_value_ref(&mut datum, &value).unwrap();
    assert_eq!(Writer::leak(9, later_json).unwrap().decode::<Heartbeat>(&datum).unwrap(), Heartbeat { beat: 5 });
}

fn any_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect())
}

prop_compose! {
    fn any_outcome()(
        id in any::<[u8; 16]>(), fingerprint in any::<[u8; 16]>(), state in 0usize..3, kind in any::<bool>(),
        reason in proptest::option::of(any_text()), iban in proptest::option::of(any_text()),
        texts in proptest::array::uniform5(any_text()), numbers in any::<(i64, i32, i64, i64)>(),
    ) -> Outcome {
        let [from, to, description, username, key] = texts;
        let (amount, credit_partition, credit_sequence, time) = numbers;
        Outcome {
            id: Uuid(id), fingerprint, reason, from, to, amount, description, iban, username, key,
            state: [OutcomeState::Pending, OutcomeState::Confirmed, OutcomeState::Failed][state],
            kind: if kind { OutcomeKind::Account } else { OutcomeKind::Transfer },
            credit_partition, credit_sequence, time,
        }
    }
}

prop_compose! {
    fn any_balance_changed()(
        texts in proptest::array::uniform3(any_text()), numbers in any::<[i64; 5]>(),
        transfer_id in proptest::option::of(any::<[u8; 16]>()),
    ) -> BalanceChanged {
        let ([iban, from_to, description], [new_balance, changed_by, sequence, transaction_id, time]) = (texts, numbers);
        BalanceChanged {
            iban, new_balance, changed_by, from_to, description, transfer_id: transfer_id.map(Uuid), sequence,
            transaction_id, time,
        }
    }
}

proptest! {
    #[test]
    fn any_outcome_survives(record in any_outcome()) {
        survives(&record);
    }

    #[test]
    fn any_balance_change_survives(record in any_balance_changed()) {
        survives(&record);
    }

    #[test]
    fn any_position_survives(
        next_offset in proptest::collection::btree_map(any_text(), any::<i64>(), 0..6), numbers in any::<(i64, i64, i32, i32)>(),
    ) {
        let (commit_sequence, last_transaction, layout, shards) = numbers;
        survives(&Position { next_offset, commit_sequence, last_transaction, layout, shards });
    }

    #[test]
    fn any_user_survives(
        texts in any::<(String, Option<String>)>(), id in any::<[u8; 16]>(),
        ibans in proptest::collection::vec(any_text(), 0..5),
    ) {
        survives(&User { username: texts.0, password_hash: texts.1, account_creation_id: Uuid(id), ibans });
    }

    /// Noise is refused, or is by chance a record; it never panics.
    #[test]
    fn noise_is_data_or_an_error(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = writer_of::<ConfirmMoneyTransfer>().decode::<ConfirmMoneyTransfer>(&noise);
        let _ = writer_of::<Outcome>().decode::<Outcome>(&noise);
        let _ = writer_of::<Position>().decode::<Position>(&noise);
        let _ = writer_of::<User>().decode::<User>(&noise);
        if let Ok((_, datum)) = unframe(&noise) {
            let _ = writer_of::<BalanceChanged>().decode::<BalanceChanged>(datum);
        }
    }

    /// One flipped byte in a good record is refused or read, never a panic.
    #[test]
    fn a_flipped_byte_never_panics(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut value = encoded(&outcome());
        let at = 5 + at.index(value.len() - 5);
        value[at] ^= flip;
        let _ = writer_of::<Outcome>().decode::<Outcome>(&value[5..]);
    }
}
