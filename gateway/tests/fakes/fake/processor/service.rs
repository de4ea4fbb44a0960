//! The query protocol over the maps of a fake processor.

use super::super::filtered::filtered_page;
use super::{FakeProcessor, Rows, failed};
use futures_util::Stream;
use gateway::rows::{self, Outcome};
use prost::Message;
use schemas::query::broken_watch::Reason;
use schemas::query::query_server::Query;
use schemas::query::{
    AwaitRequest, AwaitResponse, BrokenWatch, Entry, GetRequest, GetResponse, NotOwner, PartitionStatus, ScanRequest,
    ScanResponse, Stale, StatusRequest, StatusResponse, Token, WatchRequest, WatchResponse,
};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

fn is_watched(request: &WatchRequest, key: &[u8]) -> bool {
    key.starts_with(&request.prefix) && request.after.as_ref().is_none_or(|after| key > after.as_slice())
}

pub(super) struct Service {
    pub(super) bank: Arc<FakeProcessor>,
}

impl Service {
    fn check(&self, partition: i32) -> Result<(), Status> {
        if let Some(refusal) = &*self.bank.refusal.lock() {
            return Err(refusal());
        }
        if self.bank.state.lock().state != "running" {
            return Err(Status::unavailable("restoring"));
        }
        if !(0..self.bank.partitions).contains(&partition) {
            return Err(Status::failed_precondition("not the owner"));
        }
        Ok(())
    }

    fn called(&self, partition: i32) -> Result<(), Status> {
        self.bank.calls.send_modify(|calls| *calls += 1);
        self.check(partition)
    }

    /// Whether rows of these commits may be read here; true: as old ones. It waits for nothing.
    fn may_read(&self, partition: i32, tokens: &[Token], stale_ms_max: u32) -> Result<bool, Status> {
        self.called(partition)?;
        if let Some(refusal) = &*self.bank.read_refusal.lock() {
            return Err(refusal());
        }
        let staleness_ms = *self.bank.staleness_ms.lock();
        if staleness_ms.is_some_and(|staleness_ms| staleness_ms > stale_ms_max) {
            return Err(NotOwner::default().into_status("this is a standby"));
        }
        let have = self.bank.token(&self.bank.state.lock(), partition).commit_sequence;
        let mut wanted = tokens.iter().filter(|token| token.partition == partition).map(|token| token.commit_sequence);
        match wanted.find(|want| *want > have) {
            Some(want) => Err(Stale { partition, have, want }.into_status()),
            None => Ok(staleness_ms.is_some()),
        }
    }

    /// Whether a watch of transactions can go on after this one.
    fn resumes(&self, request: &WatchRequest) -> Result<(), Status> {
        let state = self.bank.state.lock();
        let Some(after) = request.after.as_deref().filter(|_| request.table == rows::TRANSACTION) else {
            return Ok(());
        };
        let after = i64::from_be_bytes(after.try_into().unwrap());
        let last = self.bank.last_id(&state, request.partition);
        let forgotten = state.forgotten.get(&request.partition).copied().unwrap_or_default();
        let reason = match after {
            after if after > last => Reason::BeyondEnd,
            after if after < forgotten => Reason::TooOld,
            _ => return Ok(()),
        };
        Err(BrokenWatch { reason: reason.into(), end: last.to_be_bytes().to_vec() }.into_status("the cursor"))
    }

    fn rows(&self, partition: i32, table: &str) -> Rows {
        self.bank.state.lock().tables.get(&(partition, table.to_owned())).cloned().unwrap_or_default()
    }
}

#[tonic::async_trait]
impl Query for Service {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let request = request.into_inner();
        let stale = self.may_read(request.partition, &request.tokens, request.stale_ms_max)?;
        let rows = self.rows(request.partition, &request.table);
        let found = request
            .keys
            .into_iter()
            .filter_map(|key| rows.get(&key).map(|value| Entry { key, value: value.clone(), deleted: false }));
        let token = self.bank.token(&self.bank.state.lock(), request.partition);
        Ok(Response::new(GetResponse { entries: found.collect(), token: Some(token), stale }))
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        let request = request.into_inner();
        let stale = self.may_read(request.partition, &request.tokens, request.stale_ms_max)?;
        if !(1..=1000).contains(&request.limit) {
            return Err(Status::invalid_argument("limit"));
        }
        let rows = self.rows(request.partition, &request.table);
        let fits = |key: &[u8]| {
            key.starts_with(&request.prefix)
                && (request.after.is_empty()
                    || if request.reverse { key < request.after.as_slice() } else { key > request.after.as_slice() })
        };
        let mut all: Vec<Entry> = rows
            .into_iter()
            .filter(|(key, _)| fits(key))
            .map(|(key, value)| Entry { key, value, deleted: false })
            .collect();
        if request.reverse {
            all.reverse();
        }
        let token = self.bank.token(&self.bank.state.lock(), request.partition);
        Ok(Response::new(ScanResponse { token: Some(token), stale, ..filtered_page(all, &request) }))
    }

    async fn r#await(&self, request: Request<AwaitRequest>) -> Result<Response<AwaitResponse>, Status> {
        let request = request.into_inner();
        self.called(request.partition)?;
        let deadline = tokio::time::Instant::now() + Duration::from_millis(request.timeout_ms.into());
        let mut changed = self.bank.changed.subscribe();
        loop {
            let found: Option<Outcome> = self.bank.read(request.partition, &request.table, &request.key);
            if let Some(outcome) = found {
                let state = self.bank.state.lock();
                let same = state.fingerprints.get(&request.key).is_some_and(|f| f[..] == request.context[..]);
                let answer =
                    if same { outcome } else { failed(request.key.clone(), "id was used for another transfer") };
                let tokens = vec![self.bank.token(&state, request.partition)];
                return Ok(Response::new(AwaitResponse { value: Some(answer.encode_to_vec()), tokens }));
            }
            if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                return Ok(Response::new(AwaitResponse::default()));
            }
            self.check(request.partition)?;
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        self.check(request.partition)?;
        self.resumes(&request)?;
        // Before the rows are read, so that no later change is missed.
        let mut changed = self.bank.changed.subscribe();
        let position = {
            let mut state = self.bank.state.lock();
            if state.watches_behind > 0 {
                state.watches_behind -= 1;
                return Err(BrokenWatch::default().into_status("fell behind"));
            }
            state.log.len()
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let bank = Arc::clone(&self.bank);
        let first = if request.snapshot || request.after.is_some() {
            self.rows(request.partition, &request.table)
                .into_iter()
                .filter(|(key, _)| is_watched(&request, key))
                .map(|(key, value)| Entry { key, value, deleted: false })
                .collect()
        } else {
            Vec::new()
        };
        tokio::spawn(async move {
            let mut position = position;
            let mut entries: Vec<Entry> = first;
            let mut live = true;
            loop {
                let response = WatchResponse { entries, live, ..WatchResponse::default() };
                if (live || !response.entries.is_empty()) && sender.send(Ok(response)).await.is_err() {
                    return;
                }
                live = false;
                tokio::select! {
                    () = sender.closed() => return,
                    _ = changed.changed() => {}
                }
                let refused = bank.refusal.lock().as_ref().map(|refusal| refusal());
                if let Some(refused) = refused {
                    let _ = sender.send(Err(refused)).await;
                    return;
                }
                let state = bank.state.lock();
                entries = state.log[position..]
                    .iter()
                    .filter(|(partition, table, entry)| {
                        (*partition, table) == (request.partition, &request.table) && is_watched(&request, &entry.key)
                    })
                    .map(|(_, _, entry)| entry.clone())
                    .collect();
                position = state.log.len();
                drop(state);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(|item| item))))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let state = self.bank.state.lock().state.clone();
        let partitions = (0..self.bank.partitions)
            .map(|partition| PartitionStatus { partition, state: state.clone(), ..PartitionStatus::default() })
            .collect();
        let partition_count = self.bank.partitions;
        Ok(Response::new(StatusResponse { instance: self.bank.name.clone(), partitions, partition_count }))
    }
}
