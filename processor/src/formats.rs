//! The usual format of a table: rows are the binary form of a record, changelog values its Avro form.

use std::marker::PhantomData;

use schemas::{AvroRecord, Encoder, SchemaCache};

pub use crate::restore::decode_with;
use crate::topology::{FormatError, RowFormat};

/// Rows of one Avro record; local keys are the text of the changelog keys.
pub struct AvroRows<T> {
    encoder: Encoder<T>,
    schemas: SchemaCache,
    record: PhantomData<fn() -> T>,
}

impl<T: AvroRecord> AvroRows<T> {
    /// Writes with `encoder`, reads with any writer's schema that `schemas` knows.
    pub fn new(encoder: Encoder<T>, schemas: SchemaCache) -> AvroRows<T> {
        AvroRows { encoder, schemas, record: PhantomData }
    }
}

impl<T: AvroRecord + Send + Sync> RowFormat for AvroRows<T> {
    fn write_changelog(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        let record: T = state_store::rows::decode(row).map_err(|error| FormatError::Bad(error.to_string()))?;
        self.encoder.encode(&record, out).map_err(|error| FormatError::Bad(error.to_string()))
    }

    fn read_changelog(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        let record: T = decode_with(&self.schemas, value)?;
        state_store::rows::encode(&record, out).map_err(|error| FormatError::Bad(error.to_string()))
    }
}
