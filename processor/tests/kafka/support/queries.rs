//! A client of a processor's query service.

use std::collections::BTreeMap;

use kontor_compose::eventually_some;
use prost::Message;
use schemas::bank_view as view;
use schemas::partition_of;
use schemas::query::query_client::QueryClient;
use schemas::query::{
    AwaitRequest, AwaitResponse, Entry, GetRequest, GetResponse, ScanRequest, ScanResponse, StatusRequest,
    StatusResponse, Token, WatchRequest, WatchResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{DEADLINE, Sent};

/// Rows of every table as callers see them: by table, partition and key.
pub type Rows = BTreeMap<(&'static str, i32, Vec<u8>), Vec<u8>>;

/// Every table that callers may read.
const TABLES: [&str; 5] = ["account", "user", "outcome", "history", "transaction"];

/// See the module. Connects when it is first used, and again when the processor is.
#[derive(Clone)]
pub struct Queries {
    client: QueryClient<Channel>,
    partitions: i32,
}

impl Queries {
    /// Of the processor at this address.
    pub fn of(address: &str, partitions: i32) -> Queries {
        let channel = Endpoint::from_shared(address.to_owned()).unwrap().tcp_nodelay(true).connect_lazy();
        Queries { client: QueryClient::new(channel), partitions }
    }

    /// Rows by key of one partition.
    pub async fn get(&self, partition: i32, table: &str, key: &[u8]) -> Result<Option<Entry>, Status> {
        Ok(self.get_within(partition, table, key, 0).await?.entries.pop())
    }

    /// The same with the commit that it is of; rows may be so old, and then they are marked.
    pub async fn get_within(
        &self,
        partition: i32,
        table: &str,
        key: &[u8],
        stale_ms_max: u32,
    ) -> Result<GetResponse, Status> {
        let (table, keys) = (table.to_owned(), vec![key.to_vec()]);
        let request = GetRequest { partition, table, keys, tokens: Vec::new(), timeout_ms: 0, stale_ms_max };
        Ok(self.client.clone().get(request).await?.into_inner())
    }

    /// A read as it is asked for.
    pub async fn read(&self, request: GetRequest) -> Result<GetResponse, Status> {
        Ok(self.client.clone().get(request).await?.into_inner())
    }

    /// A page as it is asked for.
    pub async fn page(&self, request: ScanRequest) -> Result<ScanResponse, Status> {
        Ok(self.client.clone().scan(request).await?.into_inner())
    }

    /// A watch as it is asked for.
    pub async fn watch(&self, request: WatchRequest) -> Result<tonic::Streaming<WatchResponse>, Status> {
        Ok(self.client.clone().watch(request).await?.into_inner())
    }

    /// The commit that a fresh read of the partition is of.
    pub async fn sequence(&self, partition: i32) -> Result<u64, Status> {
        let request = GetRequest { partition, table: "account".to_owned(), ..GetRequest::default() };
        Ok(self.client.clone().get(request).await?.into_inner().token.unwrap().commit_sequence)
    }

    /// An account as callers see it.
    pub async fn account(&self, iban: &str) -> Option<view::Account> {
        let partition = partition_of(iban.as_bytes(), self.partitions);
        let entry = self.patiently(|| self.get(partition, "account", iban.as_bytes())).await?;
        Some(view::Account::decode(entry.value.as_slice()).unwrap())
    }

    /// A user as gateways see it.
    pub async fn user(&self, username: &str) -> Option<view::User> {
        let partition = partition_of(username.as_bytes(), self.partitions);
        let entry = self.patiently(|| self.get(partition, "user", username.as_bytes())).await?;
        Some(view::User::decode(entry.value.as_slice()).unwrap())
    }

    /// Balance in cents of an account that exists.
    pub async fn balance(&self, iban: &str) -> i64 {
        self.account(iban).await.unwrap().balance
    }

    /// Asks again while the owner cannot prove that it is one: on a busy machine its heartbeats may be late.
    pub async fn patiently<T, F: Future<Output = Result<T, Status>>>(&self, ask: impl Fn() -> F) -> T {
        let answered = || async {
            match ask().await {
                Err(status) if status.code() == Code::Unavailable => None,
                answered => Some(answered.unwrap()),
            }
        };
        eventually_some(DEADLINE, "an answer of the owner", answered).await.unwrap()
    }

    /// Waits for the final outcome of a command.
    pub async fn outcome(&self, sent: &Sent) -> view::Outcome {
        let answer = self.patiently(|| self.answer(sent)).await;
        answer.unwrap_or_else(|| panic!("{sent:?} was not answered in time"))
    }

    /// Waits for the final outcome of a command; `None` when the time ran out.
    pub async fn answer(&self, sent: &Sent) -> Result<Option<view::Outcome>, Status> {
        let answer = self.await_answer(sent).await?;
        Ok(answer.value.map(|value| view::Outcome::decode(value.as_slice()).unwrap()))
    }

    /// Reason of a refused command, empty for a confirmed one.
    pub async fn reason(&self, sent: &Sent) -> String {
        self.outcome(sent).await.reason
    }

    /// Every row of every table; an error of any of them.
    pub async fn try_rows(&self) -> Result<Rows, Status> {
        let mut rows = Rows::new();
        for table in TABLES {
            for partition in 0..self.partitions {
                for entry in self.scan(partition, table).await? {
                    rows.insert((table, partition, entry.key), entry.value);
                }
            }
        }
        Ok(rows)
    }

    /// Every row of every table.
    pub async fn rows(&self) -> Rows {
        self.try_rows().await.unwrap()
    }

    async fn scan(&self, partition: i32, table: &str) -> Result<Vec<Entry>, Status> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let request = ScanRequest {
                partition,
                table: table.to_owned(),
                prefix: Vec::new(),
                after: entries.last().map(|entry| entry.key.clone()).unwrap_or_default(),
                reverse: false,
                limit: 1000,
                tokens: Vec::new(),
                timeout_ms: 0,
                ..ScanRequest::default()
            };
            let page = self.client.clone().scan(request).await?.into_inner();
            entries.extend(page.entries);
            if !page.more {
                return Ok(entries);
            }
        }
    }

    /// The answer to a command as it comes, with the commits that it depends on.
    pub async fn await_answer(&self, sent: &Sent) -> Result<AwaitResponse, Status> {
        let request = AwaitRequest {
            partition: sent.partition,
            table: "outcome".to_owned(),
            key: sent.id.0.to_vec(),
            context: sent.fingerprint.to_vec(),
            timeout_ms: 20_000,
        };
        Ok(self.client.clone().r#await(request).await?.into_inner())
    }

    /// Balance of an account, read at these commits or later ones; waits for them as long as told.
    pub async fn balance_at(&self, iban: &str, tokens: Vec<Token>, timeout_ms: u32) -> Result<i64, Status> {
        let partition = partition_of(iban.as_bytes(), self.partitions);
        let (table, keys) = ("account".to_owned(), vec![iban.as_bytes().to_vec()]);
        let request = GetRequest { partition, table, keys, tokens, timeout_ms, stale_ms_max: 0 };
        let answer = self.client.clone().get(request).await?.into_inner();
        Ok(view::Account::decode(answer.entries[0].value.as_slice()).unwrap().balance)
    }

    /// Name of the instance and number of its partitions, as gateways ask for them.
    pub async fn status(&self) -> Result<StatusResponse, Status> {
        Ok(self.client.clone().status(StatusRequest {}).await?.into_inner())
    }
}
