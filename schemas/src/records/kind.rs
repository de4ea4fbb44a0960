//! What every record has beside its fields: a name, a schema, a writer that is built once.

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record of `avro/`. Implemented here only.
pub trait AvroRecord: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Short name, which is also the serde name of the struct: apache-avro compares them.
    const NAME: &'static str;

    /// Name with its namespace, as schema registries and subjects use it.
    fn full_name() -> &'static str;

    /// Text of the schema file, exactly as `topics apply` registers it.
    fn schema_json() -> &'static str;

    /// The parsed schema.
    fn schema() -> &'static Schema;

    /// Writer of this record's data, without framing; one for the whole process, because building one costs as much
    /// as encoding.
    #[doc(hidden)]
    fn datum_writer() -> &'static GenericDatumWriter<'static>;
}

/// A record as data, for those who have only its name.
#[derive(Clone, Copy)]
pub struct RecordType {
    /// Short name.
    pub name: &'static str,
    /// Name with its namespace.
    pub full_name: &'static str,
    /// Text of the schema file.
    pub schema_json: &'static str,
    /// The parsed schema.
    pub schema: fn() -> &'static Schema,
}

impl std::fmt::Debug for RecordType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.full_name)
    }
}

impl PartialEq for RecordType {
    fn eq(&self, other: &Self) -> bool {
        self.full_name == other.full_name
    }
}

impl Eq for RecordType {}

/// The record with this short or full name.
pub fn record_type(name: &str) -> Option<&'static RecordType> {
    super::RECORD_TYPES.iter().find(|record| record.name == name || record.full_name == name)
}

/// [`AvroRecord::NAME`] of `T`.
pub(super) fn name_of<T: AvroRecord>() -> &'static str {
    T::NAME
}

/// Declares the structs as they stand, implements [`AvroRecord`] for each from `avro/<name>.avsc`, and lists them all.
macro_rules! avro_records {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )* }
    )*) => {
        $(
            $(#[$meta])*
            #[expect(missing_docs, reason = "the schema file documents each field")]
            pub struct $name { $( $(#[$field_meta])* pub $field: $type, )* }

            impl $crate::records::AvroRecord for $name {
                const NAME: &'static str = stringify!($name);

                fn full_name() -> &'static str {
                    concat!("nl.openweb.data.", stringify!($name))
                }

                fn schema_json() -> &'static str {
                    include_str!(concat!("../avro/", stringify!($name), ".avsc"))
                }

                fn schema() -> &'static apache_avro::Schema {
                    static SCHEMA: std::sync::LazyLock<apache_avro::Schema> =
                        std::sync::LazyLock::new(|| $crate::records::kind::parse($name::schema_json()));
                    &SCHEMA
                }

                fn datum_writer() -> &'static apache_avro::writer::datum::GenericDatumWriter<'static> {
                    static WRITER: std::sync::LazyLock<apache_avro::writer::datum::GenericDatumWriter<'static>> =
                        std::sync::LazyLock::new(|| $crate::records::kind::writer($name::schema()));
                    &WRITER
                }
            }
        )*

        /// Every record that there is.
        pub static RECORD_TYPES: &[RecordType] = &[$(
            RecordType {
                name: stringify!($name),
                full_name: concat!("nl.openweb.data.", stringify!($name)),
                schema_json: include_str!(concat!("../avro/", stringify!($name), ".avsc")),
                schema: <$name as $crate::records::AvroRecord>::schema,
            },
        )*];
    };
}
pub(super) use avro_records;

#[expect(clippy::expect_used, reason = "compiled-in text; a test parses every schema")]
pub(super) fn parse(schema_json: &str) -> Schema {
    Schema::parse_str(schema_json).expect("a schema file of this crate parses")
}

#[expect(clippy::expect_used, reason = "cannot fail for a schema without unresolved names; a test builds every writer")]
pub(super) fn writer(schema: &'static Schema) -> GenericDatumWriter<'static> {
    GenericDatumWriter::builder(schema).human_readable(false).build().expect("a schema of this crate resolves")
}
