//! Subscriptions against a bank of fakes: filters, resuming, slow subscribers, a processor that goes away.

use crate::fake::{World, text};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Stream(BoxStream<'static, async_graphql::Response>);

impl Stream {
    pub fn open(world: &World, query: &str) -> Self {
        Self(world.gateway.api.subscribe(async_graphql::Request::new(query)).boxed())
    }

    /// Open, and its feeds are joined.
    pub async fn live(world: &World, query: &str) -> Self {
        let before = world.gateway.live.channels();
        let mut stream = Self::open(world, query);
        let joined = async {
            while world.gateway.live.channels() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            response = stream.0.next() => panic!("nothing has happened yet: {response:?}"),
            joined = tokio::time::timeout(PATIENCE, joined) => joined.expect("no feed is joined"),
        }
        stream
    }

    pub async fn next(&mut self) -> Value {
        let response = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the stream says nothing");
        serde_json::to_value(response.expect("the stream has ended")).unwrap()
    }

    async fn transaction(&mut self) -> Value {
        let response = self.next().await;
        assert!(response.get("errors").is_none(), "{response}");
        response["data"]["stream_transactions"].clone()
    }

    pub async fn amounts(&mut self, count: usize) -> Vec<i64> {
        let mut amounts = Vec::new();
        for _ in 0..count {
            amounts.push(text(&self.transaction().await["amount_cents"]).parse().unwrap());
        }
        amounts
    }

    /// The code that it ends with.
    pub async fn code(&mut self) -> String {
        let response = self.next().await;
        let code = text(&response["errors"][0]["extensions"]["code"]);
        assert!(self.ended().await, "after {response}");
        code
    }

    pub fn says_nothing(&mut self) -> bool {
        self.0.next().now_or_never().is_none()
    }

    async fn ended(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the stream says nothing").is_none()
    }
}

pub fn with(arguments: &str) -> String {
    format!("subscription {{ stream_transactions{arguments} {{ id iban amount_cents direction descr cursor }} }}")
}

#[tokio::test]
async fn a_transaction_appears_on_an_open_subscription() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let mut earlier = Stream::live(&world, &with("")).await;
    world.bank.change_balance(&iban, 1, "cash", "before");
    assert_eq!(earlier.amounts(1).await, [1]);
    let mut stream = Stream::live(&world, &with("")).await;
    world.deposit(&iban, 500, "after").await;
    let seen = stream.transaction().await;
    assert_eq!((text(&seen["iban"]), text(&seen["descr"])), (iban, "after".to_owned()));
    assert!(stream.says_nothing());
}

#[tokio::test]
async fn each_filter_withholds_what_does_not_fit() {
    let world = World::new().await;
    let (one, _) = world.open("somebody").await;
    let (two, _) = world.open("another1").await;
    let cases = [
        (format!("(iban: \"{one}\")"), vec![100, -2000, 30]),
        ("(min_amount: 1000)".to_owned(), vec![-2000, 4000]),
        ("(max_amount: 100)".to_owned(), vec![100, 30]),
        ("(direction: DEBIT)".to_owned(), vec![-2000]),
        ("(direction: CREDIT)".to_owned(), vec![100, 30, 4000]),
        ("(descr_includes: \"hUuR\")".to_owned(), vec![-2000, 4000]),
        (format!("(iban: \"{one}\", min_amount: 50, direction: CREDIT)"), vec![100]),
    ];
    let mut streams = Vec::new();
    for (arguments, wanted) in cases {
        streams.push((Stream::live(&world, &with(&arguments)).await, arguments, wanted));
    }
    world.bank.change_balance(&one, 100, "cash", "brood");
    world.bank.change_balance(&one, -2000, "shop", "Huur mei");
    world.bank.change_balance(&one, 30, "cash", "kaas");
    world.bank.change_balance(&two, 4000, "cash", "terug van HUUR");
    for (stream, arguments, wanted) in &mut streams {
        let mut seen = stream.amounts(wanted.len()).await;
        // Between two partitions there is no order.
        seen.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(&seen, wanted, "{arguments}");
        assert!(stream.says_nothing(), "{arguments}");
    }
}

#[tokio::test]
async fn a_stream_resumes_after_its_cursor_without_gap_or_duplicate() {
    let world = World::new().await;
    let mut ibans = Vec::new();
    for name in 0..6 {
        ibans.push(world.open(&format!("somebody-{name}")).await.0);
    }
    let mut stream = Stream::live(&world, &with("")).await;
    for n in 1..=20_i64 {
        world.bank.change_balance(&ibans[usize::try_from(n).unwrap() % 6], n, "cash", "");
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for _ in 0..8 {
        let transaction = stream.transaction().await;
        seen.push(transaction["id"].as_i64().unwrap());
        cursor = text(&transaction["cursor"]);
    }
    drop(stream);
    for n in 21..=40_i64 {
        world.bank.change_balance(&ibans[usize::try_from(n).unwrap() % 6], n, "cash", "");
    }
    let mut resumed = Stream::open(&world, &with(&format!("(after: \"{cursor}\")")));
    for n in 41..=60_i64 {
        world.bank.change_balance(&ibans[usize::try_from(n).unwrap() % 6], n, "cash", "");
    }
    while seen.len() < 60 {
        seen.push(resumed.transaction().await["id"].as_i64().unwrap());
    }
    assert!(resumed.says_nothing());
    let distinct: std::collections::HashSet<i64> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), 60, "{seen:?}");
}

#[tokio::test]
async fn a_stream_of_one_account_resumes_after_any_of_its_transactions() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    for cents in 1..=5 {
        world.bank.change_balance(&iban, cents, "cash", "");
    }
    let data = world.data(&format!("{{ transactions_by_iban(iban: \"{iban}\", max_items: 3) {{ cursor }} }}")).await;
    let third = text(&data["transactions_by_iban"][2]["cursor"]);
    let mut stream = Stream::open(&world, &with(&format!("(iban: \"{iban}\", after: \"{third}\")")));
    assert_eq!(stream.amounts(2).await, [4, 5]);
    world.bank.change_balance(&iban, 6, "cash", "");
    assert_eq!(stream.amounts(1).await, [6]);

    for arguments in [format!("(after: \"{third}\")"), "(after: \"junk\")".to_owned()] {
        let refused = Stream::open(&world, &with(&arguments)).next().await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_INPUT", "{refused}");
    }
}

#[tokio::test]
async fn a_killed_processor_leaves_neither_gap_nor_duplicate() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let mut stream = Stream::live(&world, &with("")).await;
    for round in 0..3_i64 {
        world.bank.change_balance(&iban, round * 10 + 1, "cash", "");
        assert_eq!(stream.amounts(1).await, [round * 10 + 1]);
        world.bank.kill();
        world.bank.change_balance(&iban, round * 10 + 2, "cash", "while away");
        world.bank.restart().await;
        world.bank.change_balance(&iban, round * 10 + 3, "cash", "");
        assert_eq!(stream.amounts(2).await, [round * 10 + 2, round * 10 + 3]);
    }
    assert!(stream.says_nothing());
}

#[tokio::test]
async fn a_watch_that_fell_behind_is_made_up_for_from_the_table() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let mut stream = Stream::live(&world, &with("")).await;
    world.bank.kill();
    for cents in 1..=5 {
        world.bank.change_balance(&iban, cents, "cash", "");
    }
    world.bank.next_watches_fall_behind(8);
    world.bank.restart().await;
    assert_eq!(stream.amounts(5).await, [1, 2, 3, 4, 5]);
    world.bank.change_balance(&iban, 6, "cash", "");
    assert_eq!(stream.amounts(1).await, [6]);
}

#[tokio::test]
async fn a_slow_subscriber_is_told_and_resumes_where_it_was() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let mut slow = Stream::live(&world, &with("")).await;
    let mut quick = Stream::live(&world, &with("")).await;
    world.bank.change_balance(&iban, 1, "cash", "");
    let first = slow.transaction().await;
    assert_eq!(first["amount_cents"], "1");
    let many = i64::try_from(gateway::live::BUFFERED).unwrap() + 100;
    let mut quick_seen = quick.amounts(1).await;
    for cents in 2..=many {
        world.bank.change_balance(&iban, cents, "cash", "");
        quick_seen.extend(quick.amounts(1).await);
    }
    assert_eq!(quick_seen, (1..=many).collect::<Vec<_>>(), "one slow subscriber does not hold up another");

    let told = slow.next().await;
    assert_eq!(told["errors"][0]["extensions"]["code"], "SLOW_SUBSCRIBER", "{told}");
    assert!(slow.ended().await);
    let cursor = text(&told["errors"][0]["extensions"]["cursor"]);
    let mut resumed = Stream::open(&world, &with(&format!("(after: \"{cursor}\")")));
    assert_eq!(resumed.amounts(usize::try_from(many - 1).unwrap()).await, (2..=many).collect::<Vec<_>>());
}

#[tokio::test]
async fn account_changes_shows_the_account_then_what_becomes_of_it() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let query = format!("subscription {{ account_changes(iban: \"{iban}\") {{ balance_cents }} }}");
    let mut stream = Stream::open(&world, &query);
    let balance = |response: Value| text(&response["data"]["account_changes"]["balance_cents"]);
    assert_eq!(balance(stream.next().await), "0");
    world.deposit(&iban, 100, "").await;
    assert_eq!(balance(stream.next().await), "100");
    world.bank.kill();
    world.bank.change_balance(&iban, 11, "cash", "");
    world.bank.restart().await;
    assert_eq!(balance(stream.next().await), "111");
    assert!(stream.says_nothing());

    // Others begin like the third and the fourth.
    for nobody in ["nobody", &iban[..8], ""] {
        let query = format!("subscription {{ account_changes(iban: \"{nobody}\") {{ iban }} }}");
        let told = Stream::open(&world, &query).next().await;
        assert_eq!(told["errors"][0]["extensions"]["code"], "NOT_FOUND", "{nobody:?}");
    }
}

#[tokio::test]
async fn log_in_and_transfer_as_subscriptions_give_exactly_one_result() {
    let world = World::new().await;
    let query =
        r#"subscription { get_account(username: "somebody", password: "correct horse") { iban token reason } }"#;
    let mut stream = Stream::open(&world, query);
    let result = stream.next().await["data"]["get_account"].clone();
    assert!(stream.ended().await);
    let (iban, uuid) = (text(&result["iban"]), uuid::Uuid::now_v7().to_string());
    let transfer = format!(
        r#"subscription {{ money_transfer(uuid: "{uuid}", token: "cash", from: "cash", to: "{iban}", descr: "x", amount: 5) {{ uuid success reason }} }}"#
    );
    let mut stream = Stream::open(&world, &transfer);
    let result = stream.next().await["data"]["money_transfer"].clone();
    assert_eq!(result, json!({ "uuid": uuid, "success": true, "reason": null }));
    assert!(stream.ended().await);
    let wrong = r#"subscription { get_account(username: "somebody", password: "wrong horse") { reason } }"#;
    let result = Stream::open(&world, wrong).next().await;
    assert_eq!(result["data"]["get_account"]["reason"], "incorrect password");
}

#[tokio::test]
async fn open_subscriptions_are_counted_and_let_go() {
    let world = World::new().await;
    let streams = [Stream::live(&world, &with("")).await, Stream::live(&world, &with("")).await];
    assert_eq!(world.gateway.api.active_subscriptions(), 2);
    drop(streams);
    assert_eq!(world.gateway.api.active_subscriptions(), 0);
}
