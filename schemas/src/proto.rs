//! Generated code of `proto/`: the query protocol and the bank's view of rows. Documented in the .proto files.

/// The query service of a processor (`kontor.query.v1`): tables, keys and positions, nothing of a bank.
#[expect(missing_docs, reason = "generated; documented in proto/kontor/query/v1/query.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod query {
    tonic::include_proto!("kontor.query.v1");
}

/// What the bank presents for the rows of its tables (`kontor.bank.v1`).
#[expect(missing_docs, reason = "generated; documented in proto/kontor/bank/v1/bank.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod bank_view {
    tonic::include_proto!("kontor.bank.v1");
}
