//! Documents that want to cost more than they should: each is refused, and cheaply.

use crate::fake::World;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

fn corpus() -> Vec<(&'static str, String)> {
    let repeat = |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(" ");
    let in_query = |body: String| format!("{{ {body} }}");
    let by_id = "transaction_by_id(id: 1) { id }";
    let doubling = |leaf: &str, length: usize| {
        let mut document = String::from("{ ...f0 }");
        for n in 0..length {
            write!(document, " fragment f{n} on Query {{ ...f{0} ...f{0} }}", n + 1).unwrap();
        }
        write!(document, " fragment f{length} on Query {{ {leaf} }}").unwrap();
        document
    };
    let log_in = "get_account(username: \"somebody\", password: \"guess-one\") { token }";
    let one = format!("mutation a {{ {log_in} }}");
    let billions = {
        let mut document = String::from("mutation b { ...f0 }");
        for n in 0..32 {
            let next = repeat(4, &|_| format!("...f{}", n + 1));
            write!(document, " fragment f{n} on Mutation {{ {next} }}").unwrap();
        }
        document + &format!(" fragment f32 on Mutation {{ {log_in} }}")
    };
    vec![
        ("one log-in, then more than can be counted", format!("{one} {billions}")),
        ("more log-ins than can be counted, then one", format!("{billions} {one}")),
        ("aliases of one field", in_query(repeat(16, &|n| format!("a{n}: {by_id}")))),
        ("aliases inside", in_query(format!("transaction_by_id(id: 1) {{ {} }}", repeat(16, &|n| format!("a{n}: id"))))),
        ("root fields", in_query(repeat(11, &|n| format!("a{n}: __typename")))),
        ("root fields without aliases", in_query(repeat(11, &|_| by_id.to_owned()))),
        ("log-ins in one document", format!("mutation {{ {} }}", repeat(2, &|n| format!("a{n}: get_account(username: \"somebody\", password: \"guess-{n}aa\") {{ token }}")))),
        ("log-ins in two operations", "mutation a { get_account(username: \"somebody\", password: \"guess-one\") { token } } mutation b { get_account(username: \"somebody\", password: \"guess-two\") { token } }".to_owned()),
        ("log-ins through a fragment", "mutation { ...f ...f } fragment f on Mutation { get_account(username: \"somebody\", password: \"guess-one\") { token } }".to_owned()),
        ("deep selection", format!("{}a{}", "{ a ".repeat(39), "}".repeat(39))),
        ("deeper than the parser may go", "{ a ".repeat(1500)),
        ("deep list value", format!("{{ transaction_by_id(id: {}1{}) {{ id }} }}", "[".repeat(2000), "]".repeat(2000))),
        ("deep object value", format!("{{ transaction_by_id(id: {}1{}) {{ id }} }}", "{a:".repeat(1000), "}".repeat(1000))),
        ("deep list value behind a block string without an end", format!("{{ a(b: [\"\"\"x\"{}1{}]) }}", "[".repeat(2000), "]".repeat(2000))),
        ("deep list type", format!("query($a: {}Int{}) {{ __typename }}", "[".repeat(1500), "]".repeat(1500))),
        ("doubling fragments", doubling("transaction_by_id(id: 1) { id }", 40)),
        ("doubling fragments of nothing", doubling("...nowhere", 40)),
        ("doubling fragments, short", doubling("__typename", 12)),
        ("fragment of itself", "{ ...f } fragment f on Query { ...f }".to_owned()),
        ("fragments in a ring", "{ ...f } fragment f on Query { ...g } fragment g on Query { ...f }".to_owned()),
        ("ten spreads, five deep", {
            let ten = |n: usize| repeat(10, &|_| format!("...f{n}"));
            let mut document = in_query(ten(0));
            (0..5).for_each(|n| write!(document, " fragment f{n} on Query {{ {} }}", ten(n + 1)).unwrap());
            document + " fragment f5 on Query { __typename }"
        }),
        ("inline fragments", format!("{}__typename{}", "{ ... on Query ".repeat(39), "}".repeat(39))),
        ("directives on one field", in_query(format!("__typename {}", "@include(if: true) ".repeat(11)))),
        ("directives on many fields", in_query(repeat(6, &|_| "__typename @include(if: true) @skip(if: false)".to_owned()))),
        ("unknown directives", in_query(format!("__typename {}", "@a ".repeat(400)))),
        ("tokens", in_query("a ".repeat(1001))),
        ("long document", format!("{{ __typename }} # {}", "x".repeat(8200))),
        ("long string", in_query(format!("account(iban: \"{}\") {{ iban }}", "x".repeat(8200)))),
        ("expensive lists", in_query(repeat(9, &|n| format!("a{n}: all_last_transactions {{ id iban descr time }}")))),
        ("large pages", in_query(repeat(10, &|n| format!("a{n}: transactions_by_iban(iban: \"x\", max_items: 250) {{ id iban descr }}")))),
        ("huge page", in_query(repeat(10, &|n| format!("a{n}: transactions_by_iban(iban: \"x\", max_items: 9223372036854775807) {{ id iban }}")))),
        ("negative page", in_query("accounts(first: -2147483648) { nodes { iban } }".to_owned())),
        ("deep introspection", format!("{{ __schema {{ types {} }} }}", {
            let deep = "{ fields { type ".repeat(10);
            format!("{deep}{{ name }}{}", "} }".repeat(10))
        })),
        ("introspection beside a question", format!("{{ __typename {by_id} __schema {{ types {{ fields {{ type {{ ofType {{ ofType {{ ofType {{ ofType {{ ofType {{ ofType {{ name }} }} }} }} }} }} }} }} }} }} }}")),
        ("brackets only", "{".repeat(8000)),
        ("quotes only", "\"".repeat(8000)),
        ("nothing", String::new()),
        ("zero bytes", "\0".repeat(1000)),
        ("not text", "\u{fffd}\u{feff}".repeat(500)),
    ]
}

#[tokio::test]
async fn every_hostile_document_is_refused_cheaply() {
    let world = World::new().await;
    world.execute("{ __typename }").await;
    for (name, document) in corpus() {
        let expensive_for_the_wall = Instant::now();
        let before = cpu_time();
        let response = world.execute(&document).await;
        let spent = cpu_time() - before;
        assert!(response["errors"].is_array(), "{name} passed: {response}");
        assert!(response["errors"][0]["extensions"]["code"].is_string(), "{name}: {response}");
        // The test runs on one thread, so this is the cost of that document and of the background of the fakes.
        assert!(spent < Duration::from_millis(10), "{name}: {spent:?} of CPU");
        assert!(expensive_for_the_wall.elapsed() < Duration::from_secs(2), "{name}");
    }
    assert!(corpus().len() >= 30);
    assert!(world.commands.sent.lock().is_empty());
}

#[tokio::test]
async fn what_clients_really_send_passes() {
    let world = World::new().await;
    let transaction = "id iban new_balance changed_by from_to descr direction";
    for document in [
        format!("{{ transactions_by_iban(iban: \"x\", max_items: 250) {{ {transaction} }} }}"),
        format!("{{ all_last_transactions {{ {transaction} }} }}"),
        format!(
            "query Page {{ one: transactions(iban: \"x\", first: 100) {{ nodes {{ ...t }} page_info {{ has_next_page end_cursor }} }} }} fragment t on Transaction {{ {transaction} }}"
        ),
        INTROSPECTION.to_owned(),
    ] {
        world.data(&document).await;
    }
}

/// As GraphiQL sends it.
const INTROSPECTION: &str = "query IntrospectionQuery { __schema { queryType { name } mutationType { name } subscriptionType { name } types { ...FullType } directives { name description locations args { ...InputValue } } } } fragment FullType on __Type { kind name description fields(includeDeprecated: true) { name description args { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason } inputFields { ...InputValue } interfaces { ...TypeRef } enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...TypeRef } } fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue } fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } }";

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
