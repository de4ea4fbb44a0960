//! Generated code of `proto/`: the query protocol, the copying of stores between instances, and the bank's view of rows.
//! Documented in the .proto files.

/// The query service of a processor (`kontor.query.v1`): tables, keys and positions, nothing of a bank.
#[expect(missing_docs, reason = "generated; documented in proto/kontor/query/v1/query.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod query {
    tonic::include_proto!("kontor.query.v1");

    /// Name of the metadata that carries a [`NotOwner`].
    const NOT_OWNER: &str = "kontor-not-owner-bin";
    /// Name of the metadata that carries a [`Stale`].
    const STALE: &str = "kontor-stale-bin";
    /// Name of the metadata that carries a [`BrokenWatch`].
    const BROKEN_WATCH: &str = "kontor-broken-watch-bin";

    impl NotOwner {
        /// The status of an instance that does not own the partition.
        #[must_use]
        pub fn into_status(self, message: impl Into<String>) -> tonic::Status {
            carrying(tonic::Status::failed_precondition(message), NOT_OWNER, &self)
        }

        /// What a status says about the owner; `None` when it is about something else.
        #[must_use]
        pub fn of(status: &tonic::Status) -> Option<NotOwner> {
            carried(status, NOT_OWNER)
        }
    }

    impl Stale {
        /// The status of a partition that has not reached the commit that was asked for.
        #[must_use]
        pub fn into_status(self) -> tonic::Status {
            let Stale { partition, have, want } = self;
            let message = format!("STALE partition {partition}: have commit {have}, want {want}");
            carrying(tonic::Status::deadline_exceeded(message), STALE, &self)
        }

        /// What a status says about a commit that was not reached; `None` when it is about something else.
        #[must_use]
        pub fn of(status: &tonic::Status) -> Option<Stale> {
            carried(status, STALE)
        }
    }

    impl BrokenWatch {
        /// The status of a watch that cannot go on where it is.
        #[must_use]
        pub fn into_status(self, message: impl Into<String>) -> tonic::Status {
            carrying(tonic::Status::out_of_range(message), BROKEN_WATCH, &self)
        }

        /// Why a watch ended so; `None` when it ended for something else.
        #[must_use]
        pub fn of(status: &tonic::Status) -> Option<BrokenWatch> {
            carried(status, BROKEN_WATCH)
        }
    }

    impl ScanResponse {
        /// The row behind which the next page begins: the last one that was scanned, wanted or not; `None` when there was
        /// none.
        #[must_use]
        pub fn end(&self) -> Option<&Entry> {
            self.last_scanned.as_ref().or(self.entries.last())
        }
    }

    fn carrying(mut status: tonic::Status, name: &'static str, data: &impl prost::Message) -> tonic::Status {
        let bytes = prost::Message::encode_to_vec(data);
        status.metadata_mut().insert_bin(name, tonic::metadata::MetadataValue::from_bytes(&bytes));
        status
    }

    fn carried<T: prost::Message + Default>(status: &tonic::Status, name: &'static str) -> Option<T> {
        let bytes = status.metadata().get_bin(name)?.to_bytes().ok()?;
        T::decode(bytes).ok()
    }

    #[cfg(test)]
    mod tests {
        use super::broken_watch::Reason;
        use super::{BrokenWatch, Entry, NotOwner, ScanResponse, Stale};

        #[test]
        fn a_hint_travels_with_its_status() {
            let hint = NotOwner { epoch: 7, endpoint: "http://127.0.0.1:1".to_owned() };
            let status = hint.clone().into_status("not here");
            assert_eq!((status.code(), status.message()), (tonic::Code::FailedPrecondition, "not here"));
            assert_eq!(NotOwner::of(&status), Some(hint));
            assert_eq!(NotOwner::of(&tonic::Status::failed_precondition("other")), None);
        }

        #[test]
        fn a_commit_that_was_not_reached_travels_with_its_status() {
            let stale = Stale { partition: 3, have: 5, want: u64::MAX };
            let status = stale.into_status();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
            assert_eq!((Stale::of(&status), NotOwner::of(&status)), (Some(stale), None));
        }

        #[test]
        fn why_a_watch_ended_travels_with_its_status() {
            for reason in [Reason::FellBehind, Reason::TooOld, Reason::BeyondEnd] {
                let broken = BrokenWatch { reason: reason.into(), end: vec![1, 2] };
                let status = broken.clone().into_status("because");
                assert_eq!((status.code(), status.message()), (tonic::Code::OutOfRange, "because"));
                assert_eq!(BrokenWatch::of(&status).map(|read| read.reason()), Some(reason));
                assert_eq!(BrokenWatch::of(&status), Some(broken));
            }
        }

        #[test]
        fn a_page_ends_at_the_last_row_that_was_scanned() {
            let row = |key: u8| Entry { key: vec![key], ..Entry::default() };
            let page = |entries: &[u8], last_scanned: Option<u8>| ScanResponse {
                entries: entries.iter().copied().map(row).collect(),
                last_scanned: last_scanned.map(row),
                ..ScanResponse::default()
            };
            assert_eq!(page(&[], None).end(), None);
            assert_eq!(page(&[1, 2], None).end(), Some(&row(2)), "nothing was scanned behind it");
            assert_eq!(page(&[1, 2], Some(5)).end(), Some(&row(5)));
            assert_eq!(page(&[], Some(5)).end(), Some(&row(5)));
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
