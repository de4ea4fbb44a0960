//! Latencies of a run by class, and what was answered. Pure but for the clock readings handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::mix::Class;

/// Longest latency told apart; longer ones count as this.
const MAX_US: u64 = 600_000_000;

/// What became of the events of one run, or of several that are added up.
#[derive(Debug)]
pub struct Tally {
    histograms: BTreeMap<Class, Histogram<u64>>,
    refused: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
    confirmed: u64,
    duplicates: u64,
    seen: Vec<u64>,
    answered: u64,
    first: Option<Duration>,
    last: Duration,
}

/// Microseconds of one class.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Summary {
    /// Which commands.
    pub class: String,
    /// How many.
    pub count: u64,
    /// Least.
    pub min_ms: f64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 9 of 10.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1000.
    pub p999_ms: f64,
    /// Most.
    pub max_ms: f64,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// Number of the event.
    pub n: u64,
    /// How the event travelled.
    pub class: Class,
    /// Why it was refused, if it was.
    pub refusal: Option<&'a str>,
}

impl Tally {
    /// Of so many events.
    pub fn new(events: u64) -> Tally {
        Tally {
            histograms: BTreeMap::new(),
            refused: BTreeMap::new(),
            failures: BTreeMap::new(),
            confirmed: 0,
            duplicates: 0,
            seen: vec![0; usize::try_from(events.div_ceil(64)).unwrap_or(0)],
            answered: 0,
            first: None,
            last: Duration::ZERO,
        }
    }

    /// An answer came `now` after the start to an event that was due at `due`. Says whether it is the first one.
    pub fn answer(&mut self, answer: &Answer<'_>, due: Duration, now: Duration) -> bool {
        if !self.mark(answer.n) {
            self.duplicates += 1;
            return false;
        }
        self.answered += 1;
        self.first.get_or_insert(now);
        self.last = self.last.max(now);
        match answer.refusal {
            None => self.confirmed += 1,
            Some(reason) => *self.refused.entry(reason.to_owned()).or_default() += 1,
        }
        let latency_us = u64::try_from(now.saturating_sub(due).as_micros()).unwrap_or(MAX_US).clamp(1, MAX_US);
        self.histogram(answer.class).saturating_record(latency_us);
        true
    }

    fn histogram(&mut self, class: Class) -> &mut Histogram<u64> {
        #[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram accepts")]
        self.histograms
            .entry(class)
            .or_insert_with(|| Histogram::new_with_bounds(1, MAX_US, 3).expect("bounds of a histogram"))
    }

    fn mark(&mut self, n: u64) -> bool {
        let Some(word) = usize::try_from(n / 64).ok().and_then(|at| self.seen.get_mut(at)) else { return false };
        let bit = 1u64 << (n % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Events with at least one answer.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Answers beyond the first of an event.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Events that were done.
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Refusals by reason.
    pub fn refused(&self) -> &BTreeMap<String, u64> {
        &self.refused
    }

    /// An event got no answer, and this is why.
    pub fn failed(&mut self, why: &str) {
        *self.failures.entry(why.to_owned()).or_default() += 1;
    }

    /// Events that got no answer, by what was said instead.
    pub fn failures(&self) -> &BTreeMap<String, u64> {
        &self.failures
    }

    /// From the first answer to the last.
    pub fn first_to_last(&self) -> Duration {
        self.first.map_or(Duration::ZERO, |first| self.last.saturating_sub(first))
    }

    /// Adds what another run of the same kind measured. Times of answers are kept per run and so add up.
    pub fn add(&mut self, other: Tally) {
        let span = self.first_to_last() + other.first_to_last();
        (self.first, self.last) = (Some(Duration::ZERO), span);
        self.confirmed += other.confirmed;
        self.duplicates += other.duplicates;
        self.answered += other.answered;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        for (why, count) in other.failures {
            *self.failures.entry(why).or_default() += count;
        }
        for (class, histogram) in other.histograms {
            // Both have the same bounds, so nothing can be out of range.
            let _ = self.histogram(class).add(&histogram);
        }
    }

    /// Latencies by class.
    pub fn summaries(&self) -> Vec<Summary> {
        self.histograms.iter().map(|(class, histogram)| Summary::of(class.name(), histogram)).collect()
    }
}

impl Summary {
    fn of(class: &str, histogram: &Histogram<u64>) -> Summary {
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
        Summary {
            class: class.to_owned(),
            count: histogram.len(),
            min_ms: ms(histogram.min()),
            mean_ms: histogram.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(n: u64) -> Answer<'static> {
        Answer { n, class: Class::Within, refusal: None }
    }

    #[test]
    fn latency_counts_from_the_time_an_event_was_due() {
        // A stall of a second: all ten events that were due meanwhile are answered at its end.
        let mut tally = Tally::new(10);
        for n in 0..10 {
            tally.answer(&answer(n), Duration::from_millis(100 * n), Duration::from_millis(1000));
        }
        let summary = &tally.summaries()[0];
        assert_eq!(summary.count, 10);
        assert!((summary.max_ms - 1000.0).abs() < 2.0 && (summary.min_ms - 100.0).abs() < 1.0, "{summary:?}");
    }

    #[test]
    fn a_second_answer_is_a_duplicate() {
        let mut tally = Tally::new(100);
        assert!(tally.answer(&answer(99), Duration::ZERO, Duration::from_millis(1)));
        assert!(!tally.answer(&answer(99), Duration::ZERO, Duration::from_millis(2)));
        assert_eq!((tally.answered(), tally.duplicates()), (1, 1));
    }

    #[test]
    fn runs_add_up() {
        let (mut one, mut two) = (Tally::new(4), Tally::new(4));
        for (tally, from, to) in [(&mut one, 5, 15), (&mut two, 100, 130)] {
            tally.answer(&answer(0), Duration::ZERO, Duration::from_millis(from));
            let refused = Answer { refusal: Some("insufficient funds"), ..answer(1) };
            tally.answer(&refused, Duration::ZERO, Duration::from_millis(to));
        }
        one.add(two);
        assert_eq!((one.answered(), one.confirmed(), one.refused()["insufficient funds"]), (4, 2, 2));
        assert_eq!(one.first_to_last(), Duration::from_millis(40));
        assert_eq!(one.summaries()[0].count, 4);
    }
}
