//! Injected faults: what the caller hears, and what the log holds afterwards.

use super::*;
use crate::clock::Clock;

/// Sends one record, commits with the fault, and returns what the caller heard.
fn commit_with(bench: &Bench, producer: &mut MemoryProducer, fault: Injected) -> Result<(), Fault> {
    bench.log.inject(fault);
    producer.begin().unwrap();
    send(producer, bench.a0, "x").unwrap();
    send(producer, bench.b0, "x").unwrap();
    producer.commit(SOON)
}

#[test]
fn a_lost_reply_hides_that_the_commit_happened() {
    let bench = bench();
    let mut producer = bench.producer("p");
    let heard = commit_with(&bench, &mut producer, Injected::CommitReplyLost);
    assert!(matches!(heard, Err(Fault::Discard(_))));
    assert_eq!(bench.committed(bench.a0), ["0:x"]);
    assert!(bench.log.open_transactions().is_empty());
}

#[test]
fn a_lost_request_leaves_the_transaction_open_until_the_next_init() {
    let bench = bench();
    let mut producer = bench.producer("p");
    let heard = commit_with(&bench, &mut producer, Injected::CommitRequestLost);
    assert!(matches!(heard, Err(Fault::Discard(_))));
    assert_eq!(bench.log.open_transactions(), ["p"]);
    bench.producer("p");
    assert!(bench.committed(bench.a0).is_empty());
    assert_eq!(bench.log.last_stable(bench.a0).unwrap(), 2);
}

#[test]
fn a_late_commit_lands_unless_another_producer_came_first() {
    for (init_first, committed) in [(false, vec!["0:x".to_owned()]), (true, vec![])] {
        let bench = bench();
        let mut producer = bench.producer("p");
        let heard = commit_with(&bench, &mut producer, Injected::CommitLate);
        assert!(matches!(heard, Err(Fault::Discard(_))));
        assert!(bench.committed(bench.a0).is_empty());
        if init_first {
            bench.producer("p");
        }
        assert_eq!(bench.log.late(), 1);
        bench.log.deliver_all();
        assert_eq!(bench.committed(bench.a0), committed, "init first: {init_first}");
    }
}

#[test]
fn a_slow_commit_takes_time_and_beyond_the_deadline_its_outcome_is_unknown() {
    let bench = bench();
    let mut producer = bench.producer("p");
    commit_with(&bench, &mut producer, Injected::CommitSlow(SOON / 2)).unwrap();
    assert_eq!(bench.clock.monotonic(), SOON / 2);
    let heard = commit_with(&bench, &mut producer, Injected::CommitSlow(SOON * 2));
    assert!(matches!(heard, Err(Fault::Discard(_))));
    assert_eq!(bench.clock.monotonic(), SOON / 2 + SOON, "the caller waits for its deadline only");
    assert_eq!(bench.committed(bench.a0), ["0:x"]);
    bench.log.deliver_all();
    assert_eq!(bench.committed(bench.a0), ["0:x", "2:x"]);
}

#[test]
fn late_markers_show_a_commit_partition_by_partition() {
    let bench = bench();
    let mut producer = bench.producer("p");
    commit_with(&bench, &mut producer, Injected::MarkersLate).unwrap();
    assert!(bench.committed(bench.a0).is_empty());
    bench.log.deliver_late(1);
    assert_eq!((bench.committed(bench.a0).len(), bench.committed(bench.b0).len()), (0, 1));
    bench.log.deliver_late(0);
    assert_eq!(bench.committed(bench.a0), ["0:x"]);
}

#[test]
fn the_last_decided_record_is_known_before_its_marker_arrives() {
    let bench = bench();
    let decided = || bench.log.last_decided(bench.a0, b"x").map(|record| record.offset);
    let mut producer = bench.producer("p");
    assert_eq!(decided(), None);
    commit_with(&bench, &mut producer, Injected::MarkersLate).unwrap();
    assert_eq!(decided(), Some(0));
    bench.log.deliver_all();
    assert_eq!(decided(), Some(0));
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "x").unwrap();
    assert_eq!(decided(), Some(0), "open");
    producer.abort(SOON).unwrap();
    assert_eq!(decided(), Some(0), "aborted");
}

#[test]
fn what_is_late_arrives_while_a_simulated_reader_waits() {
    let bench = bench();
    let mut producer = bench.producer("p");
    commit_with(&bench, &mut producer, Injected::MarkersLate).unwrap();
    let mut consumer = bench.consumer(bench.a0, 0);
    assert!(poll(&mut consumer, 1).unwrap().len() + poll(&mut consumer, 1).unwrap().len() == 1);
}

#[test]
fn late_markers_stand_before_the_next_transaction_of_the_id_or_its_next_init() {
    for next_init in [false, true] {
        let bench = bench();
        let mut producer = bench.producer("p");
        commit_with(&bench, &mut producer, Injected::MarkersLate).unwrap();
        if next_init {
            bench.producer("p");
        } else {
            producer.begin().unwrap();
            send(&mut producer, bench.a1, "y").unwrap();
        }
        assert_eq!(bench.log.late(), 0);
        assert_eq!(bench.committed(bench.a0), ["0:x"], "a new init: {next_init}");
    }
}

#[test]
fn an_abort_fault_allows_nothing_but_the_abort() {
    for fault in [Injected::SendAborts, Injected::CommitAborts] {
        let bench = bench();
        let mut producer = bench.producer("p");
        producer.begin().unwrap();
        send(&mut producer, bench.a0, "before").unwrap();
        bench.log.inject(fault);
        let heard = send(&mut producer, bench.a0, "x").and_then(|()| producer.commit(SOON));
        assert!(matches!(heard, Err(Fault::Abort(_))), "{fault:?}");
        assert!(matches!(send(&mut producer, bench.a0, "y"), Err(Fault::Abort(_))));
        assert!(matches!(producer.begin(), Err(Fault::Abort(_))));
        assert!(matches!(producer.commit(SOON), Err(Fault::Abort(_))));
        producer.abort(SOON).unwrap();
        bench.commit(&mut producer, bench.a1, &["after"]);
        assert!(bench.committed(bench.a0).is_empty());
        assert_eq!(bench.committed(bench.a1), ["0:after"]);
        assert!(bench.log.misuses().is_empty());
    }
}

#[test]
fn an_expiry_looks_like_a_fence_and_loses_the_transaction() {
    let bench = bench();
    let mut producer = bench.producer("p");
    let heard = commit_with(&bench, &mut producer, Injected::Expired);
    assert!(matches!(heard, Err(Fault::Fenced(_))));
    assert!(bench.committed(bench.a0).is_empty());
    assert!(bench.log.open_transactions().is_empty());
    let mut newer = bench.producer("p");
    bench.commit(&mut newer, bench.a0, &["y"]);
}

#[test]
fn a_full_queue_lets_the_same_send_be_made_again() {
    let bench = bench();
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    bench.log.inject(Injected::SendQueueFull);
    assert!(matches!(send(&mut producer, bench.a0, "x"), Err(Fault::Retry(_))));
    send(&mut producer, bench.a0, "x").unwrap();
    producer.commit(SOON).unwrap();
    assert_eq!(bench.committed(bench.a0), ["0:x"]);
}

#[test]
fn an_unclear_abort_breaks_the_producer() {
    for (fault, open) in [(Injected::AbortReplyLost, 0), (Injected::AbortRequestLost, 1)] {
        let bench = bench();
        let mut producer = bench.producer("p");
        producer.begin().unwrap();
        send(&mut producer, bench.a0, "x").unwrap();
        bench.log.inject(fault);
        assert!(matches!(producer.abort(SOON), Err(Fault::Discard(_))));
        assert_eq!(bench.log.open_transactions().len(), open, "{fault:?}");
    }
}

#[test]
fn use_after_an_unclear_answer_is_refused_and_noted() {
    let bench = bench();
    let mut producer = bench.producer("p");
    _ = commit_with(&bench, &mut producer, Injected::CommitReplyLost);
    assert!(matches!(producer.begin(), Err(Fault::Discard(_))));
    assert_eq!(bench.log.misuses().len(), 1);
}

#[test]
fn an_init_that_times_out_may_or_may_not_have_fenced() {
    let cases = [(Injected::InitTimesOut, true), (Injected::InitUnavailable, true), (Injected::InitReplyLost, false)];
    for (fault, older_lives) in cases {
        let bench = bench();
        let mut older = bench.producer("p");
        bench.log.inject(fault);
        assert!(matches!(bench.log.producer("p", SOON), Err(Fault::Retry(_))));
        older.begin().unwrap();
        send(&mut older, bench.a0, "x").unwrap();
        assert_eq!(older.commit(SOON).is_ok(), older_lives, "{fault:?}");
        bench.producer("p");
    }
}

#[test]
fn reading_fails_without_losing_its_place() {
    let bench = bench();
    bench.plain(bench.a0, "x");
    let mut consumer = bench.consumer(bench.a0, 0);
    bench.log.inject(Injected::PollUnavailable);
    bench.log.inject(Injected::PollEmpty);
    bench.log.inject(Injected::WatermarksUnavailable);
    bench.log.inject(Injected::AssignUnavailable);
    assert!(matches!(poll(&mut consumer, 10), Err(LogError::Unavailable(_))));
    assert!(poll(&mut consumer, 10).unwrap().is_empty());
    assert_eq!(poll(&mut consumer, 10).unwrap(), ["0:x"]);
    assert!(matches!(bench.log.watermarks(bench.a0), Err(LogError::Unavailable(_))));
    assert_eq!(bench.watermarks(bench.a0), (0, 1));
    assert!(matches!(consumer.assign(&[(bench.a0, 0)]), Err(LogError::Unavailable(_))));
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(1), "a failed assignment changes nothing");
    assert_eq!(bench.log.injected(), 0);
}

#[test]
fn a_fault_can_be_meant_for_one_name_only() {
    let bench = bench();
    let (mut one, mut two) = (bench.producer("one"), bench.producer("two"));
    bench.log.inject_for("two", Injected::CommitAborts);
    bench.commit(&mut one, bench.a0, &["x"]);
    two.begin().unwrap();
    send(&mut two, bench.a0, "y").unwrap();
    assert!(matches!(two.commit(SOON), Err(Fault::Abort(_))));
}

#[test]
fn the_same_seed_gives_the_same_faults_and_the_same_log() {
    let run = |seed: u64| {
        let bench = bench();
        bench.log.seed_faults(seed, Rates { commit: 300, markers_late: 300, init: 300, ..Rates::ROUGH });
        let mut heard = String::new();
        for _ in 0..200 {
            let Ok(mut producer) = bench.log.producer("p", SOON) else {
                heard.push('i');
                continue;
            };
            let outcome =
                producer.begin().and_then(|()| send(&mut producer, bench.a0, "x")).and_then(|()| producer.commit(SOON));
            heard.push(outcome.map_or_else(|fault| format!("{fault}").remove(0), |()| '.'));
        }
        (heard, bench.log.digest())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn faults_end_when_told() {
    let bench = bench();
    bench.log.seed_faults(1, Rates { commit: 1000, ..Rates::NONE });
    bench.log.inject(Injected::InitTimesOut);
    bench.log.end_faults();
    let mut producer = bench.producer("p");
    bench.commit(&mut producer, bench.a0, &["x"]);
}
