//! Consumers: positions, offsets that are gone, compaction, time, waiting.

use std::thread;

use super::*;
use crate::clock::{Clock, SystemClock};

#[test]
fn a_position_is_none_before_anything_was_passed() {
    let bench = bench();
    let mut consumer = bench.consumer(bench.a0, 0);
    assert_eq!(consumer.position(bench.a0).unwrap(), None);
    assert!(poll(&mut consumer, 10).unwrap().is_empty());
    assert_eq!(consumer.position(bench.a0).unwrap(), None);
    bench.plain(bench.a0, "x");
    poll(&mut consumer, 10).unwrap();
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(1));
    consumer.assign(&[(bench.a0, 0)]).unwrap();
    assert_eq!(consumer.position(bench.a0).unwrap(), None, "a new assignment starts anew");
}

#[test]
fn a_position_passes_markers_and_aborted_records() {
    let bench = bench();
    let mut producer = bench.producer("p");
    bench.commit(&mut producer, bench.a0, &["x"]);
    producer.begin().unwrap();
    send(&mut producer, bench.a0, "gone").unwrap();
    let mut consumer = bench.consumer(bench.a0, 0);
    assert_eq!(poll(&mut consumer, 10).unwrap(), ["0:x"]);
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(2), "stands before the open transaction");
    producer.abort(SOON).unwrap();
    assert!(poll(&mut consumer, 10).unwrap().is_empty());
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(4));
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(bench.watermarks(bench.a0).1));
}

#[test]
fn a_poll_that_is_full_stops_before_the_marker() {
    let bench = bench();
    let mut producer = bench.producer("p");
    bench.commit(&mut producer, bench.a0, &["x", "y"]);
    let mut consumer = bench.consumer(bench.a0, 0);
    assert_eq!(poll(&mut consumer, 1).unwrap(), ["0:x"]);
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(1));
    assert_eq!(poll(&mut consumer, 10).unwrap(), ["1:y"]);
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(3));
}

#[test]
fn polls_are_bounded_in_bytes_but_always_progress() {
    let bench = bench();
    ["first", "second", "third"].iter().for_each(|text| _ = bench.plain(bench.a0, text));
    let mut consumer = bench.consumer(bench.a0, 0);
    let mut batch = RecordBatch::default();
    consumer.poll(&mut batch, 10, 1, SOON).unwrap();
    assert_eq!(batch.len(), 1);
    consumer.poll(&mut batch, 10, 13, SOON).unwrap();
    assert_eq!(batch.len(), 3, "appended to what the batch held");
}

#[test]
fn no_partition_starves_another() {
    let bench = bench();
    for text in ["x", "y", "z"] {
        bench.plain(bench.a0, text);
        bench.plain(bench.a1, text);
    }
    let mut consumer = bench.log.consumer("reader").unwrap();
    consumer.assign(&[(bench.a0, 0), (bench.a1, 0)]).unwrap();
    for _ in 0..6 {
        poll(&mut consumer, 1).unwrap();
    }
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(3));
    assert_eq!(consumer.position(bench.a1).unwrap(), Some(3));
}

#[test]
fn reading_below_the_low_watermark_is_a_lost_offset() {
    let bench = bench();
    ["x", "y", "z"].iter().for_each(|text| _ = bench.plain(bench.a0, text));
    assert_eq!(bench.log.delete_below(bench.a0, 2).unwrap(), 2);
    assert_eq!(bench.watermarks(bench.a0), (2, 3));
    let mut below = bench.consumer(bench.a0, 1);
    let lost = poll(&mut below, 10).unwrap_err();
    assert!(matches!(&lost, LogError::OffsetLost { topic, partition: 0, offset: 1, .. } if topic == "a"), "{lost}");
    assert_eq!(poll(&mut bench.consumer(bench.a0, 2), 10).unwrap(), ["2:z"]);
}

#[test]
fn reading_beyond_the_high_watermark_is_a_lost_offset_but_at_it_is_waiting() {
    let bench = bench();
    bench.plain(bench.a0, "x");
    assert!(poll(&mut bench.consumer(bench.a0, 1), 10).unwrap().is_empty());
    assert!(matches!(poll(&mut bench.consumer(bench.a0, 2), 10), Err(LogError::OffsetLost { .. })));
}

#[test]
fn deletion_stops_at_the_high_watermark_and_never_goes_back() {
    let bench = bench();
    bench.plain(bench.a0, "x");
    assert_eq!(bench.log.delete_below(bench.a0, 9).unwrap(), 1);
    assert_eq!(bench.log.delete_below(bench.a0, 0).unwrap(), 1);
    assert_eq!(bench.plain(bench.a0, "y"), 1);
}

#[test]
fn compaction_keeps_the_latest_of_each_key_at_its_offset() {
    let bench = bench();
    let mut producer = bench.producer("p");
    for (key, value) in [("k", Some("1")), ("l", Some("2")), ("k", Some("3")), ("l", None)] {
        producer.begin().unwrap();
        send_row(&mut producer, bench.a0, key, value).unwrap();
        producer.commit(SOON).unwrap();
    }
    producer.begin().unwrap();
    send_row(&mut producer, bench.a0, "k", Some("aborted")).unwrap();
    producer.abort(SOON).unwrap();
    bench.log.compact(bench.a0, Tombstones::Keep).unwrap();
    assert_eq!(bench.committed(bench.a0), ["4:3", "6:-l"], "an aborted record supersedes nothing");
    assert_eq!(bench.log.read_uncommitted(bench.a0).unwrap().len(), 2, "aborted records are cleaned away");
    bench.log.compact(bench.a0, Tombstones::Drop).unwrap();
    assert_eq!(bench.committed(bench.a0), ["4:3"]);
    assert_eq!(bench.watermarks(bench.a0), (0, 10));
    let mut consumer = bench.consumer(bench.a0, 0);
    assert_eq!(poll(&mut consumer, 10).unwrap(), ["4:3"]);
    assert_eq!(consumer.position(bench.a0).unwrap(), Some(10), "the last entry always stays");
}

#[test]
fn compaction_stops_before_an_open_transaction() {
    let bench = bench();
    bench.plain(bench.a0, "k");
    let mut producer = bench.producer("p");
    producer.begin().unwrap();
    send_row(&mut producer, bench.a0, "k", Some("open")).unwrap();
    bench.plain(bench.a0, "k");
    bench.log.compact(bench.a0, Tombstones::Drop).unwrap();
    assert_eq!(bench.log.read_uncommitted(bench.a0).unwrap().len(), 3);
}

#[test]
fn a_reader_inside_a_compacted_range_goes_on_at_the_next_record() {
    let bench = bench();
    ["k", "k", "k", "l", "m"].iter().for_each(|text| _ = bench.plain(bench.a0, text));
    bench.log.compact(bench.a0, Tombstones::Keep).unwrap();
    assert_eq!(poll(&mut bench.consumer(bench.a0, 1), 10).unwrap(), ["2:k", "3:l", "4:m"]);
}

#[test]
fn plain_records_have_the_time_they_are_given_or_that_of_the_log() {
    let bench = bench();
    bench.log.append(bench.a0, None, None, Some(5)).unwrap();
    bench.plain(bench.a0, "by the clock");
    bench.clock.advance(Duration::from_millis(4));
    bench.plain(bench.a0, "later");
    bench.log.set_time(Some(9));
    bench.plain(bench.a0, "set");
    let times: Vec<i64> = bench.log.read_committed(bench.a0).unwrap().iter().map(|at| at.timestamp_ms).collect();
    assert_eq!(times, [5, 1_000, 1_004, 9]);
}

#[test]
fn what_does_not_exist_is_refused() {
    let bench = bench();
    let nowhere = TopicPartition { topic: TopicId(9), partition: 0 };
    assert!(matches!(bench.log.watermarks(nowhere), Err(LogError::Refused(_))));
    assert!(matches!(bench.log.append(nowhere, None, None, None), Err(LogError::Refused(_))));
    let mut consumer = bench.consumer(bench.a0, 0);
    assert!(matches!(consumer.assign(&[(nowhere, 0)]), Err(LogError::Refused(_))));
    assert!(matches!(consumer.position(bench.a1), Err(LogError::Refused(_))));
}

#[test]
fn mirrored_positions_are_kept_for_inspection() {
    let bench = bench();
    let mut consumer = bench.consumer(bench.a0, 0);
    assert_eq!(bench.log.mirrored(bench.a0), None);
    consumer.mirror(&[(bench.a0, 3), (bench.a1, 4)]);
    consumer.mirror(&[(bench.a0, 5)]);
    assert_eq!((bench.log.mirrored(bench.a0), bench.log.mirrored(bench.a1)), (Some(5), Some(4)));
}

#[test]
fn a_simulated_poll_without_records_moves_the_clock_instead_of_waiting() {
    let bench = bench();
    poll(&mut bench.consumer(bench.a0, 0), 1).unwrap();
    assert_eq!(bench.clock.monotonic(), SOON);
    bench.plain(bench.a0, "x");
    poll(&mut bench.consumer(bench.a0, 0), 1).unwrap();
    assert_eq!(bench.clock.monotonic(), SOON, "a poll with records takes no time");
}

#[test]
fn a_waiting_poll_wakes_for_a_commit_of_another_thread() {
    let mut topics = Topics::new(1);
    let at = TopicPartition { topic: topics.add("a"), partition: 0 };
    let log = MemoryLog::new(topics, SystemClock::shared());
    let mut consumer = log.consumer("reader").unwrap();
    consumer.assign(&[(at, 0)]).unwrap();
    let reader = thread::spawn(move || {
        let mut batch = RecordBatch::default();
        consumer.poll(&mut batch, 10, 1 << 20, Duration::from_secs(60)).unwrap();
        batch.len()
    });
    let mut producer = log.producer("p", SOON).unwrap();
    producer.begin().unwrap();
    send(&mut producer, at, "x").unwrap();
    producer.commit(SOON).unwrap();
    assert_eq!(reader.join().unwrap(), 1);
}

#[test]
fn a_waiting_poll_ends_at_its_time_out() {
    let mut topics = Topics::new(1);
    let at = TopicPartition { topic: topics.add("a"), partition: 0 };
    let log = MemoryLog::new(topics, SystemClock::shared());
    let mut consumer = log.consumer("reader").unwrap();
    consumer.assign(&[(at, 0)]).unwrap();
    let mut batch = RecordBatch::default();
    consumer.poll(&mut batch, 10, 1 << 20, Duration::from_millis(5)).unwrap();
    assert!(batch.is_empty());
}
