//! Records to bytes and back, with apache-avro's serde path: no tree of values in between.
//!
//! Encoding always uses this build's own schema. Decoding uses the schema of the writer, whatever version that was;
//! differences to ours are levelled by serde (missing fields have defaults, unknown ones are dropped).

mod skip;

use std::marker::PhantomData;
use std::sync::Once;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;

use crate::frame::{FRAME_BYTES, frame};
use crate::records::AvroRecord;

/// A record that does not fit its own schema; cannot happen with the records of this crate but for values that Avro
/// has no place for.
#[derive(Debug, thiserror::Error)]
#[error("{record} cannot be encoded")]
pub struct EncodeError {
    record: &'static str,
    source: Box<apache_avro::Error>,
}

/// A datum that is not what was asked for. Never worth a retry: the bytes will not change.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The writer wrote another record.
    #[error("schema {id} is of {found}, expected {expected}")]
    OtherRecord {
        /// Schema id.
        id: u32,
        /// Full name of the writer's record.
        found: String,
        /// Full name of the record that was asked for.
        expected: &'static str,
    },
    /// Truncated, or not written with that schema.
    #[error("datum of {bytes} bytes is no {record} of schema {id}")]
    Datum {
        /// Schema id.
        id: u32,
        /// Full name.
        record: &'static str,
        /// Length of the datum.
        bytes: usize,
        /// What apache-avro says.
        source: Box<apache_avro::Error>,
    },
    /// The record ends before the datum does.
    #[error("{left} bytes are left after {record} of schema {id}")]
    Trailing {
        /// Schema id.
        id: u32,
        /// Full name.
        record: &'static str,
        /// Bytes after the record.
        left: usize,
    },
}

/// Encodes records of one type under one schema id. Cheap to copy and to build.
#[derive(Debug)]
pub struct Encoder<T> {
    schema_id: u32,
    record: PhantomData<fn(&T)>,
}

impl<T> Clone for Encoder<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Encoder<T> {}

impl<T: AvroRecord> Encoder<T> {
    /// An encoder for the id that the registry gave this build's schema of `T`
    /// ([`SchemaCache::id_of`](crate::SchemaCache::id_of)).
    pub fn new(schema_id: u32) -> Self {
        Self { schema_id, record: PhantomData }
    }

    /// The id that goes into the framing.
    pub fn schema_id(&self) -> u32 {
        self.schema_id
    }

    /// Appends framing and datum to `out`. On an error `out` is as before.
    pub fn encode(&self, record: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let before = out.len();
        out.reserve(FRAME_BYTES + 64);
        frame(self.schema_id, out);
        match T::datum_writer().write_ser(out, record) {
            Ok(_) => Ok(()),
            Err(source) => {
                out.truncate(before);
                Err(EncodeError { record: T::full_name(), source: Box::new(source) })
            }
        }
    }
}

/// The schema behind an id: reads what was written with it.
pub struct Writer {
    /// Id in the registry.
    pub id: u32,
    /// Name of the record with its namespace.
    pub full_name: String,
    /// The writer's schema.
    pub schema: &'static Schema,
    reader: GenericDatumReader<'static>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({}, {})", self.id, self.full_name)
    }
}

impl Writer {
    /// A reader for `schema_json`, for the rest of the process: the schema is leaked, because there are as many as
    /// ids in use and no more. An error says why the text is no schema of a record.
    pub fn leak(id: u32, schema_json: &str) -> Result<&'static Self, String> {
        limit_allocation();
        let schema = Schema::parse_str(schema_json).map_err(|error| format!("not an Avro schema: {error}"))?;
        let full_name = match &schema {
            Schema::Record(record) => record.name.to_string(),
            _ => return Err("not the schema of a record".to_owned()),
        };
        let schema: &'static Schema = Box::leak(Box::new(schema));
        let reading: &'static Schema = match skip::skippable(&full_name, schema_json) {
            Some(flattened) => Box::leak(Box::new(flattened)),
            None => schema,
        };
        let reader = GenericDatumReader::builder(reading)
            .human_readable(false)
            .build()
            .map_err(|error| format!("schema of {full_name} does not resolve: {error}"))?;
        Ok(Box::leak(Box::new(Self { id, full_name, schema, reader })))
    }

    /// Whether `T` is what this schema wrote.
    pub fn is<T: AvroRecord>(&self) -> bool {
        self.full_name == T::full_name()
    }

    /// Reads one `T` that fills `datum` (the bytes after the framing) exactly.
    pub fn decode<T: AvroRecord>(&self, datum: &[u8]) -> Result<T, DecodeError> {
        let (id, record) = (self.id, T::full_name());
        if !self.is::<T>() {
            return Err(DecodeError::OtherRecord { id, found: self.full_name.clone(), expected: record });
        }
        let mut rest = datum;
        let value = self.reader.read_deser::<T>(&mut rest).map_err(|source| DecodeError::Datum {
            id,
            record,
            bytes: datum.len(),
            source: Box::new(source),
        })?;
        match rest.len() {
            0 => Ok(value),
            left => Err(DecodeError::Trailing { id, record, left }),
        }
    }
}

/// A length in a damaged datum is believed before it is found wanting: 16 MiB is more than a broker accepts, and
/// less than apache-avro's half a gigabyte.
fn limit_allocation() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        apache_avro::util::max_allocation_bytes(16 << 20);
    });
}
