//! One watch: the rows that exist, then those of every later commit, without gap or duplicate.
//!
//! The order makes it so: listen to commits first, then take a snapshot, send what it holds, then every commit that is
//! later than the snapshot. A watcher that falls too far behind is told so and starts again with its last key; one whose
//! rows are not kept any more is told that, and starts anew (`gap.rs`).

use std::sync::Arc;

use schemas::query::broken_watch::Reason;
use schemas::query::{Entry, Token, WatchRequest, WatchResponse};
use state_store::{Page, ScanRange, Snapshot, Store, TableId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::gap::{Numbered, broken, fell_behind};
use super::service::{failed, of_process, token_of};
use super::view::{Changes, Life, PartitionView};
use crate::topology::{Application, RowFilter};

/// Rows of one response, and rows that may be scanned without one.
const PAGE: usize = 500;

pub(super) struct Watch<A> {
    pub application: Arc<A>,
    pub view: Arc<PartitionView>,
    pub table: TableId,
    pub request: WatchRequest,
    /// Which rows are wanted; `None`: all.
    pub filter: Option<RowFilter>,
}

/// What was sent before the changes.
struct Existing {
    /// Commits after this one are sent as changes.
    from: u64,
    /// With a cursor: keys up to this one were sent.
    last_key: Option<Vec<u8>>,
}

type Responses = Sender<Result<WatchResponse, Status>>;

impl<A: Application> Watch<A> {
    /// Runs until the caller leaves, the partition leaves, or the watcher fell behind.
    pub async fn run(self, responses: Responses) {
        if let Err(status) = self.follow(&responses).await {
            // A caller that left needs no reason.
            let _ = responses.send(Err(status)).await;
        }
    }

    async fn follow(&self, responses: &Responses) -> Result<(), Status> {
        let mut watching = self.view.watch(self.table);
        let Existing { from, last_key } = self.send_existing(responses).await?;
        let mut last = from;
        let mut unsent = 0;
        loop {
            let commit = tokio::select! {
                commit = watching.changes.recv() => commit,
                () = responses.closed() => return Ok(()),
            };
            match self.view.life() {
                Life::Stopped(reason) => return Err(Status::failed_precondition(reason)),
                Life::Standby(_) | Life::Elsewhere => {
                    return Err(Status::failed_precondition("another instance owns the partition now"));
                }
                _ => {}
            }
            match commit {
                Ok(commit) if commit.commit_sequence <= last => {}
                // A commit whose answer was lost reaches the store by a restore, and nobody was told of its rows.
                Ok(commit) if commit.commit_sequence > last + 1 => {
                    return Err(fell_behind(format!(
                        "commits {} to {} were restored, not seen; resume after the last key",
                        last + 1,
                        commit.commit_sequence - 1
                    )));
                }
                // More rows than may be kept, or one commit that was restored.
                Ok(commit) if !commit.complete => {
                    return Err(fell_behind("fell behind; resume after the last key"));
                }
                Ok(commit) => {
                    last = commit.commit_sequence;
                    if let Some(response) = self.response_of(&commit, last_key.as_deref(), &mut unsent)?
                        && responses.send(Ok(response)).await.is_err()
                    {
                        return Ok(());
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    return Err(fell_behind(format!("fell {missed} commits behind; resume after the last key")));
                }
                Err(RecvError::Closed) => return Err(Status::unavailable("the partition left")),
            }
        }
    }

    /// Sends the rows that exist, page by page.
    ///
    /// The store is held for one page, never while a watcher takes its time: a store that failed is closed and opened anew
    /// once nobody holds it. Each page is of its own snapshot. So everything after the first one's commit is sent again as changes: a row
    /// that changed behind the pages is not missed. Where keys only rise (a watch with a cursor) rows of later pages
    /// are told from new ones by the last key.
    async fn send_existing(&self, responses: &Responses) -> Result<Existing, Status> {
        let store = match self.view.life() {
            Life::Running(store) => Arc::downgrade(&store),
            _ => return Err(Status::unavailable("the partition is not running here")),
        };
        let mut after = self.request.after.clone();
        let wanted = after.is_some() || self.request.snapshot;
        let mut numbered = self.numbered();
        let mut from = None;
        loop {
            let (response, last) = {
                let store = store.upgrade().ok_or_else(|| Status::unavailable("the store was closed meanwhile"))?;
                if wanted { self.page(&*store, after.as_deref(), &mut numbered)? } else { self.nothing(&*store)? }
            };
            let (sequence, more) = (response.token.as_ref().map_or(0, |token| token.commit_sequence), !response.live);
            let from = *from.get_or_insert(sequence);
            after = last.or(after);
            if responses.send(Ok(response)).await.is_err() {
                return Err(Status::cancelled("the watcher left"));
            }
            // Pages without wanted rows do not wait for the network, and others want this thread.
            tokio::task::yield_now().await;
            if !more {
                let last_key = after.filter(|_| self.request.after.is_some());
                return Ok(Existing { from, last_key });
            }
        }
    }

    /// Where a cursor names a place among rows that all have to come. With a prefix some of them are not asked for.
    fn numbered(&self) -> Option<Numbered> {
        let after = self.request.after.as_deref().filter(|_| self.request.prefix.is_empty())?;
        Numbered::after(self.application.identifier_step(self.table)?, after)
    }

    /// The next page, and the key of the last row that was looked at for it.
    fn page(
        &self,
        store: &dyn Store,
        after: Option<&[u8]>,
        numbered: &mut Option<Numbered>,
    ) -> Result<(WatchResponse, Option<Vec<u8>>), Status> {
        let snapshot = store.snapshot().map_err(failed(&self.view))?;
        let mut range = ScanRange::prefix(self.request.prefix.clone()).limit(PAGE);
        if let Some(after) = after {
            range = range.after(after);
        }
        let page = snapshot.scan(self.table, &range).map_err(failed(&self.view))?;
        if let Some(numbered) = numbered {
            self.check(numbered, &page, &*snapshot)?;
        }
        let view = &self.view;
        let lookup = |table: TableId, key: &[u8]| snapshot.get(table, key).inspect_err(|error| view.note(error));
        let last = page.rows.last().map(|(key, _)| key.clone());
        let mut entries = Vec::new();
        for (key, row) in page.rows {
            let value = self.application.present(self.table, &key, &row, &lookup).map_err(of_process)?;
            if self.wants(&value) {
                entries.push(Entry { key, value, deleted: false });
            }
        }
        let token = Some(token_of(&*snapshot, &self.view)?);
        let last_scanned_key = self.position(last.as_deref());
        Ok((WatchResponse { entries, token, live: !page.more, last_scanned_key }, last))
    }

    /// Every row that was given a number is on the page or was on one before it.
    fn check(&self, numbered: &mut Numbered, page: &Page, snapshot: &dyn Snapshot) -> Result<(), Status> {
        let hole = page.rows.iter().any(|(key, _)| !numbered.follow(key));
        if page.more && !hole {
            return Ok(());
        }
        let last = snapshot.progress().map_err(failed(&self.view))?.last_transaction;
        let reason = if hole { Some(Reason::TooOld) } else { numbered.end(last) };
        reason.map_or(Ok(()), |reason| Err(broken(reason, last)))
    }

    fn nothing(&self, store: &dyn Store) -> Result<(WatchResponse, Option<Vec<u8>>), Status> {
        let snapshot = store.snapshot().map_err(failed(&self.view))?;
        let token = Some(token_of(&*snapshot, &self.view)?);
        Ok((WatchResponse { token, live: true, ..WatchResponse::default() }, None))
    }

    /// `unsent`: rows that were scanned since the last response.
    fn response_of(
        &self,
        commit: &Changes,
        last_key: Option<&[u8]>,
        unsent: &mut usize,
    ) -> Result<Option<WatchResponse>, Status> {
        let mine = |key: &[u8]| key.starts_with(&self.request.prefix) && last_key.is_none_or(|last| key > last);
        let mut entries = Vec::new();
        let mut last_scanned: Option<&[u8]> = None;
        for change in commit.rows.iter().filter(|change| change.table == self.table && mine(&change.key)) {
            last_scanned = last_scanned.max(Some(&change.key));
            *unsent += 1;
            let value = match &change.row {
                Some(row) => self.present(change.key.as_slice(), row)?,
                None => Vec::new(),
            };
            if change.row.is_some() && !self.wants(&value) {
                continue;
            }
            entries.push(Entry { key: change.key.clone(), value, deleted: change.row.is_none() });
        }
        if last_scanned.is_none() || (entries.is_empty() && *unsent < PAGE) {
            return Ok(None);
        }
        *unsent = 0;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let token = Token { partition: self.view.partition, commit_sequence: commit.commit_sequence };
        let last_scanned_key = self.position(last_scanned);
        Ok(Some(WatchResponse { entries, token: Some(token), live: true, last_scanned_key }))
    }

    /// Where a watch resumes that sees some of the rows only.
    fn position(&self, last_scanned: Option<&[u8]>) -> Vec<u8> {
        let is_needed = self.filter.is_some() && self.request.after.is_some();
        last_scanned.filter(|_| is_needed).map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn wants(&self, value: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|wants| wants(value))
    }

    fn present(&self, key: &[u8], row: &[u8]) -> Result<Vec<u8>, Status> {
        let (Life::Running(store) | Life::Waiting(store, _)) = self.view.life() else {
            return Err(Status::unavailable("the partition left"));
        };
        let lookup = |table: TableId, key: &[u8]| store.get(table, key).inspect_err(|error| self.view.note(error));
        self.application.present(self.table, key, row, &lookup).map_err(of_process)
    }
}
