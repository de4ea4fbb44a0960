//! The report of a run: JSON for programs, a table for people. Pure but for writing the two files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::audit::Audit;
use crate::latency::Summary;
use crate::metrics::Counters;
use crate::probe::Outcome;
use crate::usage::Usage;

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From --name.
    pub name: String,
    /// UTC, `2026-01-31`.
    pub date: String,
    /// `commands`, `graphql` or `loop`.
    pub level: String,
    /// How it was asked for, in words.
    pub load: String,
    /// Processor cores of the machine.
    pub cores: usize,
    /// What was measured: the bank, then the control if there was one.
    pub parts: Vec<Part>,
    /// Ratios of the bank to the control, by what is compared.
    pub ratios: BTreeMap<String, f64>,
    /// The money check; absent for the loop alone, which has no money.
    pub audit: Option<Audit>,
}

/// All rounds of one subject.
#[derive(Debug, Serialize)]
pub struct Part {
    /// `bank` or `loop`.
    pub subject: String,
    /// Events sent.
    pub sent: u64,
    /// Events answered.
    pub answered: u64,
    /// Events done.
    pub confirmed: u64,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
    /// What was said instead of an answer, where anything was.
    pub failures: BTreeMap<String, u64>,
    /// Answers beyond the first of an event.
    pub duplicates: u64,
    /// Events never answered.
    pub lost: u64,
    /// Events that the driver could not hand to the broker.
    pub undelivered: u64,
    /// From the first answer to the last, rounds added up.
    pub first_to_last_s: f64,
    /// Answers per second in that time.
    pub answers_per_s: f64,
    /// By class.
    pub latencies: Vec<Summary>,
    /// By process, rounds added up; several processors together and each.
    pub usage: Vec<Usage>,
    /// Offsets that one answered event took in each topic, markers included.
    pub offsets_per_event: BTreeMap<String, f64>,
    /// What each counter of the processors gained per answered event.
    pub counters_per_event: Counters,
}

impl Part {
    /// Of what was measured in all rounds.
    pub fn new(
        subject: &str,
        outcome: &Outcome,
        usage: Vec<Usage>,
        offsets: &BTreeMap<String, i64>,
        counters: &Counters,
    ) -> Part {
        let tally = &outcome.tally;
        let per_event = |total: f64| if tally.answered() == 0 { 0.0 } else { total / tally.answered() as f64 };
        let seconds = tally.first_to_last().as_secs_f64();
        Part {
            subject: subject.to_owned(),
            sent: outcome.sent,
            answered: tally.answered(),
            confirmed: tally.confirmed(),
            refused: tally.refused().clone(),
            failures: tally.failures().clone(),
            duplicates: tally.duplicates(),
            lost: outcome.lost(),
            undelivered: outcome.undelivered,
            first_to_last_s: seconds,
            answers_per_s: if seconds > 0.0 { tally.answered() as f64 / seconds } else { 0.0 },
            latencies: tally.summaries(),
            usage,
            offsets_per_event: offsets.iter().map(|(topic, count)| (topic.clone(), per_event(*count as f64))).collect(),
            counters_per_event: counters.iter().map(|(name, gain)| (name.clone(), per_event(*gain))).collect(),
        }
    }

    /// Whether every event got exactly one answer.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.undelivered == 0 && self.answered > 0
    }

    fn cpu_ms_per_1000(&self) -> f64 {
        let once = self.usage.iter().filter(|usage| usage.within.is_none());
        once.map(|usage| usage.cpu_ms_per_1000).sum()
    }
}

impl Report {
    /// Computes the ratios of the first part to the second, if there is one.
    pub fn with_ratios(mut self) -> Report {
        if let [bank, control] = self.parts.as_slice() {
            let ratio = |of: f64, to: f64| if to > 0.0 { of / to } else { 0.0 };
            let mut ratios = BTreeMap::new();
            ratios.insert("answers per s".to_owned(), ratio(bank.answers_per_s, control.answers_per_s));
            ratios.insert("cpu of all processes".to_owned(), ratio(bank.cpu_ms_per_1000(), control.cpu_ms_per_1000()));
            for ours in &bank.latencies {
                if let Some(bare) = control.latencies.iter().find(|summary| summary.class == ours.class) {
                    ratios.insert(format!("p50 {}", ours.class), ratio(ours.p50_ms, bare.p50_ms));
                    ratios.insert(format!("p99 {}", ours.class), ratio(ours.p99_ms, bare.p99_ms));
                }
            }
            self.ratios = ratios;
        }
        self
    }

    /// Whether every event was answered once and the money is right.
    pub fn is_good(&self) -> bool {
        self.parts.iter().all(Part::is_complete) && self.audit.as_ref().is_none_or(|audit| audit.exit_code == 0)
    }

    /// Writes `<date>-<name>.json` and `.md` into `directory`, and says where.
    pub fn write(&self, directory: &Path) -> std::io::Result<[PathBuf; 2]> {
        std::fs::create_dir_all(directory)?;
        let file = |extension: &str| directory.join(format!("{}-{}.{extension}", self.date, self.name));
        let files = [file("json"), file("md")];
        std::fs::write(&files[0], serde_json::to_string_pretty(self)?)?;
        std::fs::write(&files[1], self.to_table())?;
        Ok(files)
    }

    /// Markdown, readable on a terminal too.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        self.table(&mut text).unwrap_or_default(); // Writing to a string cannot fail.
        text
    }

    fn table(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# {} ({}, {})\n\n{}; {} cores.\n", self.name, self.level, self.date, self.load, self.cores)?;
        writeln!(
            text,
            "| subject | sent | answered | refused | lost | twice | answers/s |\n|---|---|---|---|---|---|---|"
        )?;
        for part in &self.parts {
            let refused: u64 = part.refused.values().sum();
            let Part { subject, sent, answered, lost, duplicates, answers_per_s, .. } = part;
            writeln!(
                text,
                "| {subject} | {sent} | {answered} | {refused} | {lost} | {duplicates} | {answers_per_s:.0} |"
            )?;
        }
        writeln!(
            text,
            "\n| latency, ms | count | min | p50 | p90 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|---|"
        )?;
        for part in &self.parts {
            for s in &part.latencies {
                let row = [s.min_ms, s.p50_ms, s.p90_ms, s.p99_ms, s.p999_ms, s.max_ms].map(|ms| format!("{ms:.2}"));
                writeln!(text, "| {}, {} | {} | {} |", part.subject, s.class, s.count, row.join(" | "))?;
            }
        }
        writeln!(text, "\n| process | CPU s | CPU ms per 1,000 | resident MB, end | most |\n|---|---|---|---|---|")?;
        for part in &self.parts {
            for usage in &part.usage {
                let gone = if usage.gone { " (ended during the run)" } else { "" };
                let [end, most] = [usage.rss_bytes, usage.rss_max_bytes].map(|bytes| bytes as f64 / 1e6);
                let (subject, name) = (&part.subject, &usage.name);
                let (cpu, each) = (usage.cpu_s, usage.cpu_ms_per_1000);
                writeln!(text, "| {subject}, {name}{gone} | {cpu:.1} | {each:.1} | {end:.0} | {most:.0} |")?;
            }
        }
        self.per_event(text)?;
        self.growth(text)?;
        for (what, ratio) in &self.ratios {
            writeln!(text, "- bank : loop, {what}: {ratio:.2}")?;
        }
        for (reason, count) in self.parts.iter().flat_map(|part| &part.refused) {
            writeln!(text, "- refused {count} times: {reason}")?;
        }
        for (why, count) in self.parts.iter().flat_map(|part| &part.failures) {
            writeln!(text, "- without an answer {count} times: {why}")?;
        }
        match &self.audit {
            Some(audit) => writeln!(text, "\naudit: {} (exit code {})", audit.line(), audit.exit_code),
            None => Ok(()),
        }
    }

    /// Memory at the end against that of minute 5, for runs that are long enough to say.
    fn growth(&self, text: &mut String) -> std::fmt::Result {
        for (part, usage) in self.parts.iter().flat_map(|part| part.usage.iter().map(move |usage| (part, usage))) {
            if let Some(growth) = usage.growth_since_minute_5() {
                writeln!(text, "- {}, {}: resident at the end is {growth:.2} x minute 5", part.subject, usage.name)?;
            }
        }
        Ok(())
    }

    fn per_event(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text)?;
        for part in self.parts.iter().filter(|part| !part.offsets_per_event.is_empty()) {
            let total: f64 = part.offsets_per_event.values().sum();
            let each: Vec<String> =
                part.offsets_per_event.iter().map(|(topic, count)| format!("{topic} {count:.2}")).collect();
            writeln!(text, "- {}: {total:.2} offsets per event ({})", part.subject, each.join(", "))?;
        }
        for part in &self.parts {
            let shown = |name: &&String| ["produce", "transactions", "records"].iter().any(|word| name.contains(word));
            for (name, count) in part.counters_per_event.iter().filter(|(name, _)| shown(name)) {
                writeln!(text, "- {}: {name} {count:.3} per event", part.subject)?;
            }
        }
        Ok(())
    }
}

/// Adds the usage of one round to that of earlier ones.
pub fn add_usage(all: &mut Vec<Usage>, round: Vec<Usage>) {
    for usage in round {
        match all.iter_mut().find(|known| known.name == usage.name) {
            None => all.push(usage),
            Some(known) => {
                known.cpu_s += usage.cpu_s;
                known.rss_bytes = usage.rss_bytes;
                known.rss_max_bytes = known.rss_max_bytes.max(usage.rss_max_bytes);
                known.rss_series_bytes.extend(usage.rss_series_bytes);
                known.gone |= usage.gone;
            }
        }
    }
}

/// Today in UTC.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date of a day after 1970-01-01, by the Gregorian calendar.
fn date(days: u64) -> String {
    let mut days = days;
    let mut year = 1970;
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests;
