//! Generated code of `proto/`: the query protocol, the copying of stores between instances, and the bank's view of rows.
//! Documented in the .proto files.

/// The query service of a processor (`kontor.query.v1`): tables, keys and positions, nothing of a bank.
#[expect(missing_docs, reason = "generated; documented in proto/kontor/query/v1/query.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod query {
    tonic::include_proto!("kontor.query.v1");

    /// Name of the metadata that carries a [`NotOwner`].
    const NOT_OWNER: &str = "kontor-not-owner-bin";

    impl NotOwner {
        /// The status of an instance that does not own the partition.
        #[must_use]
        pub fn into_status(self, message: impl Into<String>) -> tonic::Status {
            let bytes = prost::Message::encode_to_vec(&self);
            let mut status = tonic::Status::failed_precondition(message);
            status.metadata_mut().insert_bin(NOT_OWNER, tonic::metadata::MetadataValue::from_bytes(&bytes));
            status
        }

        /// What a status says about the owner; `None` when it is about something else.
        #[must_use]
        pub fn of(status: &tonic::Status) -> Option<NotOwner> {
            let bytes = status.metadata().get_bin(NOT_OWNER)?.to_bytes().ok()?;
            prost::Message::decode(bytes).ok()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::NotOwner;

        #[test]
        fn a_hint_travels_with_its_status() {
            let hint = NotOwner { epoch: 7, endpoint: "http://127.0.0.1:1".to_owned() };
            let status = hint.clone().into_status("not here");
            assert_eq!((status.code(), status.message()), (tonic::Code::FailedPrecondition, "not here"));
            assert_eq!(NotOwner::of(&status), Some(hint));
            assert_eq!(NotOwner::of(&tonic::Status::failed_precondition("other")), None);
        }
    }
}

/// How instances copy stores from each other (`kontor.peer.v1`).
#[expect(missing_docs, reason = "generated; documented in proto/kontor/peer/v1/peer.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod peer {
    tonic::include_proto!("kontor.peer.v1");
}

/// What the bank presents for the rows of its tables (`kontor.bank.v1`).
#[expect(missing_docs, reason = "generated; documented in proto/kontor/bank/v1/bank.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod bank_view {
    tonic::include_proto!("kontor.bank.v1");
}
