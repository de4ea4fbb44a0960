use std::time::Duration;

use super::*;
use crate::latency::{Answer, Tally};
use crate::mix::Class;

fn outcome(events: u64, answered: u64, each_ms: u64) -> Outcome {
    let mut tally = Tally::new(events);
    for n in 0..answered {
        let due = Duration::from_millis(n);
        let answer = Answer { n, class: Class::Across, refusal: None };
        tally.answer(&answer, due, due + Duration::from_millis(each_ms));
    }
    Outcome { tally, sent: events, undelivered: 0, elapsed: Duration::from_secs(1) }
}

fn part(subject: &str, outcome: &Outcome, cpu_s: f64) -> Part {
    let cpu_ms_per_1000 = crate::usage::per_1000(cpu_s, outcome.tally.answered());
    let usage = vec![Usage { name: "broker".into(), cpu_s, cpu_ms_per_1000, ..Usage::default() }];
    let offsets = BTreeMap::from([("commands".to_owned(), 2_000), ("changelog".to_owned(), 5_000)]);
    let counters = Counters::from([("kontor_records_produced_total".to_owned(), 8_000.0)]);
    Part::new(subject, outcome, usage, &offsets, &counters)
}

fn report(parts: Vec<Part>, exit_code: i32) -> Report {
    let audit = Audit { exit_code, report: serde_json::Value::Null };
    Report {
        name: "x".into(),
        date: "2026-01-31".into(),
        level: "commands".into(),
        load: "50/s".into(),
        cores: 2,
        parts,
        ratios: BTreeMap::new(),
        audit: Some(audit),
    }
    .with_ratios()
}

#[test]
fn the_bank_is_compared_with_the_loop_of_the_same_run() {
    let parts = vec![part("bank", &outcome(1000, 1000, 10), 2.0), part("loop", &outcome(1000, 1000, 4), 1.0)];
    let report = report(parts, 0);
    assert!((report.ratios["p50 across partitions"] - 2.5).abs() < 0.01, "{:?}", report.ratios);
    assert!((report.ratios["cpu of all processes"] - 2.0).abs() < 1e-9);
    assert!(report.is_good());
    let table = report.to_table();
    for text in [
        "| bank | 1000 | 1000 | 0 | 0 | 0 |",
        "| bank, across partitions | 1000 | 10.00 |",
        "| bank, broker | 2.0 | 2000.0 |",
        "bank: 7.00 offsets per event (changelog 5.00, commands 2.00)",
        "kontor_records_produced_total 8.000 per event",
        "audit: clean (exit code 0)",
    ] {
        assert!(table.contains(text), "`{text}` is not in:\n{table}");
    }
}

#[test]
fn several_processors_have_a_row_for_all_and_one_for_each() {
    let usage = |name: &str, within: Option<&str>, cpu_s| Usage {
        name: name.into(),
        within: within.map(str::to_owned),
        cpu_s,
        cpu_ms_per_1000: crate::usage::per_1000(cpu_s, 1000),
        ..Usage::default()
    };
    let mut bank = part("bank", &outcome(1000, 1000, 10), 2.0);
    let of_all = Some("processor");
    bank.usage.extend([
        usage("processor", None, 3.0),
        usage("processor-1", of_all, 1.0),
        usage("processor-2", of_all, 2.0),
    ]);
    let report = report(vec![bank, part("loop", &outcome(1000, 1000, 4), 1.0)], 0);
    assert!((report.ratios["cpu of all processes"] - 5.0).abs() < 1e-9, "each counts once: {:?}", report.ratios);
    let table = report.to_table();
    for row in ["| bank, processor | 3.0 |", "| bank, processor-1 | 1.0 |", "| bank, processor-2 | 2.0 |"] {
        assert!(table.contains(row), "`{row}` is not in:\n{table}");
    }
    let json = serde_json::to_value(&report).unwrap();
    let usage = &json["parts"][0]["usage"];
    assert!(usage[1].get("within").is_none(), "as in a report of one: {usage}");
    assert_eq!(usage[2]["within"], "processor");
}

#[test]
fn a_lost_answer_or_a_breach_is_not_good() {
    for (answered, exit_code) in [(999, 0), (1000, 1), (1000, 2), (1000, -1), (0, 0)] {
        let report = report(vec![part("bank", &outcome(1000, answered, 10), 1.0)], exit_code);
        assert!(!report.is_good(), "{answered} {exit_code}");
    }
}

#[test]
fn rounds_of_usage_add_up() {
    let round =
        |cpu_s, rss| Usage { name: "broker".into(), cpu_s, rss_bytes: rss, rss_max_bytes: rss, ..Usage::default() };
    let mut all = vec![];
    add_usage(&mut all, vec![round(1.0, 9)]);
    add_usage(&mut all, vec![round(2.0, 5)]);
    assert_eq!((all.len(), all[0].cpu_s, all[0].rss_bytes, all[0].rss_max_bytes), (1, 3.0, 5, 9));
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (days, expected) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_484, "2026-01-31")] {
        assert_eq!(date(days), expected);
    }
}
