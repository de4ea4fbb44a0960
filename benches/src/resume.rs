//! What a watcher costs who was away for some transactions: from its request to the last row that it missed.
//!
//! It speaks the query protocol to a processor and resumes again and again behind the same row: by a watch, as a gateway
//! whose connection was lost, and page by page, as a gateway does for a subscriber with a cursor. Nothing else should
//! happen meanwhile. What is measured includes the network of this machine.

use std::time::Instant;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use prost::Message;
use schemas::bank_view::TransactionFilter;
use schemas::query::query_client::QueryClient;
use schemas::query::{ScanRequest, StatusRequest, WatchRequest};
use tonic::transport::{Channel, Endpoint};

use crate::stack::Stack;
use crate::usage::{Sampler, Watched, per_1000};

/// The table that subscribers follow.
const TABLE: &str = "transaction";
/// Rows of one page.
const PAGE: u32 = 1000;

/// Settings of `load resume`.
#[derive(clap::Args, Clone, Debug)]
pub struct ResumeArgs {
    /// stack.json of the running stack, or its directory. Its first processor must own the partition.
    #[arg(long)]
    pub stack: std::path::PathBuf,
    /// The partition.
    #[arg(long, default_value_t = 0)]
    pub partition: i32,
    /// Transactions that were missed, one number or several.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    pub missed: Vec<i64>,
    /// Times for each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Ask only for changes of so many cents or more.
    #[arg(long)]
    pub amount_min: Option<u64>,
}

/// Measures and prints.
pub fn run(args: &ResumeArgs) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(args))
}

async fn measure(args: &ResumeArgs) -> anyhow::Result<()> {
    let stack = Stack::load(&args.stack)?;
    let processor = stack.processors.first().context("the stack has no processor")?;
    let (Some(pid), Some(address)) = (processor.pid, processor.grpc.as_deref()) else {
        bail!("the first processor of the stack does not run");
    };
    let channel = Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await?;
    let mut reader = Reader::new(QueryClient::new(channel), args).await?;
    println!("| by | missed | rows sent | bytes | p50 ms | p99 ms | max ms | processor CPU ms per 1,000 missed |");
    println!("|---|---|---|---|---|---|---|---|");
    for missed in &args.missed {
        for way in [Way::Watch, Way::Pages] {
            let sampler = Sampler::start(vec![Watched::one("processor", pid)]);
            let mut times_us = Histogram::<u64>::new(3)?;
            let mut sent = Sent::default();
            for _ in 0..args.rounds {
                let began = Instant::now();
                sent = reader.resume(way, *missed).await?;
                times_us.record(u64::try_from(began.elapsed().as_micros())?)?;
            }
            let cpu_s: f64 = sampler.stop(0).iter().map(|usage| usage.cpu_s).sum();
            let ms = |us: u64| us as f64 / 1e3;
            println!(
                "| {way:?} | {missed} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                sent.rows,
                sent.bytes,
                ms(times_us.value_at_quantile(0.5)),
                ms(times_us.value_at_quantile(0.99)),
                ms(times_us.max()),
                per_1000(cpu_s, u64::try_from(*missed)? * u64::from(args.rounds))
            );
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Watch,
    Pages,
}

/// What came for one resumption.
#[derive(Default)]
struct Sent {
    rows: usize,
    bytes: usize,
}

/// A watcher of one partition.
struct Reader {
    client: QueryClient<Channel>,
    partition: i32,
    filter: Vec<u8>,
    /// Id of the newest transaction.
    last: i64,
    /// By how much each id is greater than the one before.
    step: i64,
}

impl Reader {
    async fn new(mut client: QueryClient<Channel>, args: &ResumeArgs) -> anyhow::Result<Reader> {
        let partition = args.partition;
        let step = client.status(StatusRequest {}).await?.into_inner().partition_count.into();
        let request =
            ScanRequest { partition, table: TABLE.to_owned(), reverse: true, limit: 1, ..ScanRequest::default() };
        let newest = client.scan(request).await?.into_inner().entries.pop();
        let newest = newest.with_context(|| format!("partition {partition} has no transactions: load it first"))?;
        let last = i64::from_be_bytes(newest.key.as_slice().try_into().context("a key that is no id")?);
        let filter = TransactionFilter { amount_min: args.amount_min, ..TransactionFilter::default() };
        Ok(Reader { client, partition, filter: filter.encode_to_vec(), last, step })
    }

    async fn resume(&mut self, way: Way, missed: i64) -> anyhow::Result<Sent> {
        let after = self.last - missed * self.step;
        anyhow::ensure!(after >= 0, "partition {} has no {missed} transactions: load it first", self.partition);
        let after = after.to_be_bytes().to_vec();
        match way {
            Way::Watch => self.watch(after).await,
            Way::Pages => self.pages(after).await,
        }
    }

    /// Until the watch is live.
    async fn watch(&mut self, after: Vec<u8>) -> anyhow::Result<Sent> {
        let request = WatchRequest {
            partition: self.partition,
            table: TABLE.to_owned(),
            after: Some(after),
            filter: self.filter.clone(),
            ..WatchRequest::default()
        };
        let mut responses = self.client.watch(request).await?.into_inner();
        let mut sent = Sent::default();
        while let Some(response) = responses.message().await? {
            sent.rows += response.entries.len();
            sent.bytes += response.encoded_len();
            if response.live {
                return Ok(sent);
            }
        }
        bail!("the watch ended")
    }

    /// Until there are no more.
    async fn pages(&mut self, mut after: Vec<u8>) -> anyhow::Result<Sent> {
        let mut sent = Sent::default();
        loop {
            let request = ScanRequest {
                partition: self.partition,
                table: TABLE.to_owned(),
                after: after.clone(),
                limit: PAGE,
                filter: self.filter.clone(),
                ..ScanRequest::default()
            };
            let page = self.client.scan(request).await?.into_inner();
            sent.rows += page.entries.len();
            sent.bytes += page.encoded_len();
            if let Some(end) = page.end() {
                after.clone_from(&end.key);
            }
            if !page.more {
                return Ok(sent);
            }
        }
    }
}
