//! Reads of owners and standbys, and watches that begin where something is missing.

use prost::Message;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use schemas::bank_view as view;
use schemas::query::broken_watch::Reason;
use schemas::query::{BrokenWatch, GetRequest, ScanRequest, Stale, Token, WatchRequest};

use crate::support::{Bank, Cluster, DEADLINE, Holder, PARTITIONS, Processor, Queries, Sent};

/// Longest wait for a commit, and the age of rows that is taken: more than a test needs.
const LONG_MS: u32 = 20_000;

/// The commits that the outcome of a command stands on, from whichever of them owns its partition.
async fn tokens_of(all: &[Queries], sent: &Sent) -> Vec<Token> {
    for queries in all {
        if let Ok(answer) = queries.await_answer(sent).await {
            return answer.tokens;
        }
    }
    panic!("nobody answers for {sent:?}");
}

fn partition_of(holder: &Holder) -> i32 {
    schemas::partition_of(holder.iban.as_bytes(), PARTITIONS)
}

/// Balance by the account and by the newest transaction of the partition, and which of the two answers may be old.
async fn read(queries: &Queries, holder: &Holder, tokens: &[Token]) -> ((i64, i64), (bool, bool)) {
    let (partition, tokens) = (partition_of(holder), tokens.to_vec());
    let (timeout_ms, stale_ms_max) = (LONG_MS, LONG_MS);
    let (table, keys) = ("account".to_owned(), vec![holder.iban.as_bytes().to_vec()]);
    let request = GetRequest { partition, table, keys, tokens: tokens.clone(), timeout_ms, stale_ms_max };
    let account = queries.read(request).await.unwrap();
    let balance = view::Account::decode(account.entries[0].value.as_slice()).unwrap().balance;
    let (table, reverse, limit) = ("transaction".to_owned(), true, 1);
    let request =
        ScanRequest { partition, table, reverse, limit, tokens, timeout_ms, stale_ms_max, ..ScanRequest::default() };
    let newest = queries.page(request).await.unwrap();
    let transaction = view::Transaction::decode(newest.entries[0].value.as_slice()).unwrap();
    ((balance, transaction.new_balance), (account.stale, newest.stale))
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_a_read_with_a_token_sees_the_write_on_owner_and_standby_or_is_told_how_far_it_is() {
    let bank = Bank::new("reads").await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 1, 100_000).await;
    cluster.launch(&bank, "p2");
    cluster.settled().await;
    let both: Vec<Queries> = cluster.instances.values().map(Processor::queries).collect();
    // A standby knows how old its rows are when it has passed a mark.
    for queries in &both {
        for holder in &holders {
            let (partition, keys) = (partition_of(holder), vec![holder.iban.as_bytes().to_vec()]);
            let (table, stale_ms_max) = ("account".to_owned(), LONG_MS);
            let request = GetRequest { partition, table, keys, stale_ms_max, ..GetRequest::default() };
            let answers = || async { queries.read(request.clone()).await.is_ok() };
            kontor_compose::eventually(DEADLINE, "a standby knows its age", answers).await.unwrap();
        }
    }
    let mut last = Vec::new();
    for round in 1..=5 {
        for holder in &holders {
            let tokens = tokens_of(&both, &bank.pay(holder, "a shop", 1)).await;
            let mut old = Vec::new();
            for queries in &both {
                let (balances, stale) = read(queries, holder, &tokens).await;
                assert_eq!(balances, (100_000 - round, 100_000 - round), "stale: {stale:?}");
                assert_eq!(stale.0, stale.1);
                old.push(stale.0);
            }
            old.sort_unstable();
            assert_eq!(old, [false, true], "an owner and a standby");
            last = tokens;
        }
    }
    // A commit that does not come: neither of them serves anything older for it.
    let Token { partition, commit_sequence } = last[0];
    let want = commit_sequence + 1_000;
    for queries in &both {
        let (table, keys) = ("account".to_owned(), Vec::new());
        let tokens = vec![Token { partition, commit_sequence: want }];
        let request = GetRequest { partition, table, keys, tokens, timeout_ms: 100, stale_ms_max: LONG_MS };
        let refused = queries.read(request).await.unwrap_err();
        let stale = Stale::of(&refused).unwrap_or_else(|| panic!("{refused}"));
        assert!(stale.want == want && (commit_sequence..want).contains(&stale.have), "{stale:?}");
    }
    bank.assert_clean().await;
}

/// Deletes all events so far of all partitions, as an operator or a retention would.
async fn delete_events(bank: &Bank) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bank.space.bootstrap()).create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(&bank.space.topic("balance_changed"), partition, Offset::End).unwrap();
    }
    let deleted = admin.delete_records(&all, &AdminOptions::new()).await.unwrap();
    deleted.elements().iter().for_each(|one| one.error().unwrap());
}

/// Ids of the transactions that a watch after this one gives before it is live, or why it ends.
async fn resume(processor: &Processor, partition: i32, after: i64) -> Result<Vec<i64>, (Vec<i64>, BrokenWatch)> {
    let (table, after) = ("transaction".to_owned(), Some(after.to_be_bytes().to_vec()));
    let request = WatchRequest { partition, table, prefix: Vec::new(), after, ..WatchRequest::default() };
    let queries = processor.queries();
    let mut responses = queries.patiently(|| queries.watch(request.clone())).await;
    let mut ids = Vec::new();
    loop {
        match responses.message().await {
            Ok(response) => {
                let response = response.unwrap();
                let id = |key: &[u8]| i64::from_be_bytes(key.try_into().unwrap());
                ids.extend(response.entries.iter().map(|entry| id(&entry.key)));
                if response.live {
                    return Ok(ids);
                }
            }
            Err(status) => return Err((ids, BrokenWatch::of(&status).unwrap_or_else(|| panic!("{status}")))),
        }
    }
}

async fn pay(bank: &Bank, processor: &Processor, holder: &Holder, times: usize) {
    for _ in 0..times {
        assert_eq!(processor.queries().reason(&bank.pay(holder, "a shop", 1)).await, "");
    }
}

/// Events are deleted while an instance is away whose store lacks them. Its table has a hole, and nobody is led past it.
/// No audit at the end: it reads what this test deletes.
#[tokio::test(flavor = "multi_thread")]
async fn e07_a_cursor_before_events_that_were_deleted_unread_is_too_old() {
    let bank = Bank::new("too-old").await;
    let mut first = bank.run_as("p1").await;
    let holder = bank.holder(&first, 1, 1_000).await;
    pay(&bank, &first, &holder, 3).await;
    let ids = resume(&first, 1, 0).await.unwrap();
    assert_eq!(ids.len(), 4, "the deposit and the payments");
    assert_eq!(first.terminate().await.code(), Some(0));
    let mut second = bank.run_as("p2").await;
    pay(&bank, &second, &holder, 2).await;
    let all = resume(&second, 1, 0).await.unwrap();
    assert_eq!((all.len(), &all[..4]), (6, ids.as_slice()));
    assert_eq!(second.terminate().await.code(), Some(0));
    delete_events(&bank).await;

    // A store of its own, without the last two: they were given out, and are nowhere.
    first.restart().await;
    first.history_complete().await;
    let too_old = |ended: Result<Vec<i64>, (Vec<i64>, BrokenWatch)>| {
        let (shown, broken) = ended.unwrap_err();
        assert_eq!((broken.reason(), broken.end), (Reason::TooOld, all[5].to_be_bytes().to_vec()));
        shown
    };
    assert!(too_old(resume(&first, 1, all[3]).await).is_empty());
    too_old(resume(&first, 1, 0).await);
    assert_eq!(resume(&first, 1, all[5]).await, Ok(vec![]));
    let (_, beyond) = resume(&first, 1, all[5] + i64::from(PARTITIONS)).await.unwrap_err();
    assert_eq!(beyond.reason(), Reason::BeyondEnd);
    pay(&bank, &first, &holder, 1).await;
    let next = resume(&first, 1, all[5]).await.unwrap();
    assert_eq!(next.len(), 1);
    assert_eq!(first.terminate().await.code(), Some(0));

    // A store made anew has nothing of before.
    std::fs::remove_dir_all(first.state_dir()).unwrap();
    first.restart().await;
    first.history_complete().await;
    let (_, broken) = resume(&first, 1, all[4]).await.unwrap_err();
    assert_eq!(broken.reason(), Reason::TooOld);
    assert_eq!(resume(&first, 1, all[5]).await, Ok(next));
    assert_eq!(first.queries().balance(&holder.iban).await, 1_000 - 6, "balances are of the changelog");
}
