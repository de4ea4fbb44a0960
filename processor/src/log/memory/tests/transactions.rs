//! Visibility, markers, epochs and fencing.

use super::*;

#[test]
fn a_commit_shows_its_records_in_every_partition_and_each_marker_takes_an_offset() {
    let bench = bench();
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "x").unwrap();
    send(&mut producer, bench.a0, "y").unwrap();
    send(&mut producer, bench.b0, "z").unwrap();
    assert_eq!(bench.committed(bench.a0), Vec::<String>::new());
    producer.commit(SOON).unwrap();
    assert_eq!(bench.committed(bench.a0), ["0:x", "1:y"]);
    assert_eq!(bench.committed(bench.b0), ["0:z"]);
    assert_eq!(bench.watermarks(bench.a0), (0, 3));
    assert_eq!(bench.watermarks(bench.b0), (0, 2));
    assert_eq!(bench.watermarks(bench.a1), (0, 0), "an untouched partition gets no marker");
}

#[test]
fn aborted_records_are_skipped_but_take_offsets() {
    let bench = bench();
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "gone").unwrap();
    producer.abort(SOON).unwrap();
    bench.commit(&mut producer, bench.a0, &["x"]);
    assert_eq!(bench.committed(bench.a0), ["2:x"]);
    assert_eq!(bench.watermarks(bench.a0), (0, 4));
    let all: Vec<String> = bench.log.read_uncommitted(bench.a0).unwrap().iter().map(show).collect();
    assert_eq!(all, ["0:gone", "2:x"]);
}

#[test]
fn records_behind_an_open_transaction_stay_invisible() {
    let bench = bench();
    bench.plain(bench.a0, "before");
    let (mut open, mut other) = (bench.producer("open"), bench.producer("other"));
    open.begin().unwrap();
    send(&mut open, bench.a0, "open").unwrap();
    bench.plain(bench.a0, "plain");
    bench.commit(&mut other, bench.a0, &["other"]);
    assert_eq!(bench.committed(bench.a0), ["0:before"]);
    assert_eq!(bench.log.last_stable(bench.a0).unwrap(), 1);
    assert_eq!(bench.watermarks(bench.a0), (0, 5), "the high watermark counts what is not committed");
    open.commit(SOON).unwrap();
    assert_eq!(bench.committed(bench.a0), ["0:before", "1:open", "2:plain", "3:other"]);
    assert_eq!(bench.log.last_stable(bench.a0).unwrap(), 6);
}

#[test]
fn a_new_producer_aborts_the_open_transaction_and_fences_the_older_one() {
    let bench = bench();
    let mut older = bench.producer("p");
    older.begin().unwrap();
    send(&mut older, bench.a0, "lost").unwrap();
    let mut newer = bench.producer("p");
    assert_eq!(bench.log.last_stable(bench.a0).unwrap(), 2, "the open transaction is over when init returns");
    send(&mut older, bench.a0, "late").unwrap();
    assert!(matches!(older.commit(SOON), Err(Fault::Fenced(_))), "the fence shows at the commit");
    bench.commit(&mut newer, bench.a0, &["kept"]);
    assert_eq!(bench.committed(bench.a0), ["2:kept"]);
    assert!(matches!(older.begin(), Err(Fault::Fenced(_))));
    assert!(matches!(older.abort(SOON), Err(Fault::Fenced(_))));
}

#[test]
fn a_fence_between_transactions_shows_at_the_next_commit() {
    let bench = bench();
    let mut older = bench.producer("p");
    bench.commit(&mut older, bench.a0, &["x"]);
    bench.log.fence("p");
    older.begin().unwrap();
    send(&mut older, bench.a0, "late").unwrap();
    assert!(matches!(older.commit(SOON), Err(Fault::Fenced(_))));
    assert_eq!(bench.committed(bench.a0), ["0:x"]);
}

#[test]
fn a_fence_can_be_told_to_show_at_send() {
    let bench = bench();
    bench.log.show_fence_at_send(true);
    let mut older = bench.producer("p");
    older.begin().unwrap();
    bench.log.fence("p");
    assert!(matches!(send(&mut older, bench.a0, "late"), Err(Fault::Fenced(_))));
    assert!(matches!(older.commit(SOON), Err(Fault::Fenced(_))));
    assert_eq!(bench.watermarks(bench.a0), (0, 0));
}

#[test]
fn ids_do_not_fence_each_other() {
    let bench = bench();
    let mut one = bench.producer("one");
    one.begin().unwrap();
    send(&mut one, bench.a0, "x").unwrap();
    let mut two = bench.producer("two");
    bench.commit(&mut two, bench.a1, &["y"]);
    one.commit(SOON).unwrap();
    assert_eq!(bench.committed(bench.a0), ["0:x"]);
}

#[test]
fn an_empty_transaction_asks_nobody_and_leaves_no_marker() {
    let bench = bench();
    let mut producer = bench.producer("p");
    bench.log.fence("p");
    producer.begin().unwrap();
    producer.commit(SOON).unwrap();
    producer.begin().unwrap();
    producer.abort(SOON).unwrap();
    assert_eq!(bench.watermarks(bench.a0), (0, 0));
}

#[test]
fn a_dropped_producer_leaves_its_transaction_open_until_the_id_is_initialised() {
    let bench = bench();
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "x").unwrap();
    drop(producer);
    assert_eq!(bench.log.open_transactions(), ["p"]);
    assert_eq!(bench.log.last_stable(bench.a0).unwrap(), 0);
    bench.producer("p");
    assert!(bench.log.open_transactions().is_empty());
    assert_eq!(bench.log.last_stable(bench.a0).unwrap(), 2);
    assert!(bench.committed(bench.a0).is_empty());
}

#[test]
fn an_expired_transaction_is_aborted_and_its_owner_fenced() {
    let bench = bench();
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "x").unwrap();
    bench.log.expire_transactions();
    assert_eq!(bench.log.last_stable(bench.a0).unwrap(), 2);
    assert!(matches!(producer.commit(SOON), Err(Fault::Fenced(_))));
    let mut idle = bench.producer("q");
    bench.log.expire_transactions();
    bench.commit(&mut idle, bench.a1, &["y"]);
}

#[test]
fn a_simulated_wait_beyond_the_time_out_expires_an_open_transaction() {
    let bench = bench();
    bench.log.expire_after(SOON * 2);
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "x").unwrap();
    let mut consumer = bench.consumer(bench.a0, 0);
    for _ in 0..2 {
        poll(&mut consumer, 1).unwrap();
        assert_eq!(bench.log.open_transactions(), ["p"]);
    }
    poll(&mut consumer, 1).unwrap();
    assert!(bench.log.open_transactions().is_empty());
    poll(&mut consumer, 1).unwrap();
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(2));
}

#[test]
fn last_offset_is_that_of_the_transactions_last_record_once_committed() {
    let bench = bench();
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "x").unwrap();
    send(&mut producer, bench.a0, "y").unwrap();
    assert_eq!(producer.last_offset(bench.a0), None, "nothing was acknowledged yet");
    producer.commit(SOON).unwrap();
    assert_eq!(producer.last_offset(bench.a0), Some(1));
    assert_eq!(producer.last_offset(bench.a1), None);
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "gone").unwrap();
    producer.abort(SOON).unwrap();
    assert_eq!(producer.last_offset(bench.a0), Some(1), "aborted records do not count");
    bench.commit(&mut producer, bench.a0, &["z"]);
    assert_eq!(producer.last_offset(bench.a0), Some(5));
}

#[test]
fn calls_out_of_order_are_refused_and_noted() {
    type Call = fn(&mut MemoryProducer, TopicPartition) -> Result<(), Fault>;
    let cases: [(&str, Call); 4] = [
        ("send", |producer, at| send(producer, at, "x")),
        ("commit", |producer, _| producer.commit(SOON)),
        ("abort", |producer, _| producer.abort(SOON)),
        ("begin", |producer, _| producer.begin().and_then(|()| producer.begin())),
    ];
    for (name, call) in cases {
        let bench = bench();
        let mut producer = bench.producer("p");
        assert!(matches!(call(&mut producer, bench.a0), Err(Fault::Discard(_))), "{name}");
        assert_eq!(bench.log.misuses().len(), 1, "{name}");
        assert!(bench.log.misuses()[0].starts_with(name), "{:?}", bench.log.misuses());
    }
}

#[test]
fn a_record_that_is_too_large_or_goes_nowhere_fails_at_send() {
    let bench = bench();
    bench.log.limit_record_bytes(10);
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "x").unwrap();
    assert!(matches!(send(&mut producer, bench.a0, "much too long"), Err(Fault::Abort(_))));
    assert!(matches!(producer.commit(SOON), Err(Fault::Abort(_))));
    producer.abort(SOON).unwrap();
    bench.commit(&mut producer, bench.a0, &["short"]);
    producer.begin().unwrap();
    let nowhere = TopicPartition { topic: bench.a0.topic, partition: 9 };
    assert!(matches!(send(&mut producer, nowhere, "x"), Err(Fault::Discard(_))));
}

#[test]
fn records_carry_headers_null_values_and_the_time_of_the_log() {
    let bench = bench();
    let mut producer = bench.producer("p");
    bench.log.set_time(Some(77));
    producer.begin().unwrap();
    let headers = [("why".to_owned(), b"because".to_vec())];
    let (topic, partition) = (bench.a0.topic, bench.a0.partition);
    producer.send(OutRecord { topic, partition, key: None, value: None, headers: &headers }).unwrap();
    producer.commit(SOON).unwrap();
    let stored = bench.log.read_committed(bench.a0).unwrap();
    let expected = StoredRecord { offset: 0, timestamp_ms: 77, key: None, value: None, headers: headers.to_vec() };
    assert_eq!(stored, [expected]);
}
