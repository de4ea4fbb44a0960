//! What an audit found, for people (a table) and for programs (JSON). Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::breach::Breach;
use super::checks::Check;
use super::entries::Counts;
use super::fold::Fold;

/// How many pending partitions the table names.
const PENDING_SHOWN: usize = 12;

/// The result of an audit.
#[derive(Debug, Serialize)]
pub struct Report {
    verdict: Verdict,
    counts: Counts,
    partitions: usize,
    elapsed_s: f64,
    checks: Vec<Line>,
    first_breach: Option<Found>,
    pending: Vec<String>,
    undecided: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Clean,
    Breach,
    Undecided,
}

#[derive(Debug, Serialize)]
struct Line {
    invariant: String,
    sentence: &'static str,
    scope: String,
    result: String,
    breaches: u64,
    found: Vec<Found>,
}

#[derive(Debug, Clone, Serialize)]
struct Found {
    invariant: String,
    at: Option<String>,
    what: String,
}

impl Report {
    /// Of a fold and what was judged over it. `pending` and `undecided` say why not everything could be.
    pub fn new(
        fold: &Fold,
        checks: Vec<Check>,
        pending: Vec<String>,
        undecided: Vec<String>,
        elapsed: Duration,
    ) -> Report {
        let lines: Vec<Line> = checks.into_iter().map(Line::from).collect();
        let first_breach = lines.iter().find_map(|line| line.found.first().cloned());
        let verdict = match (&first_breach, pending.is_empty() && undecided.is_empty()) {
            (Some(_), _) => Verdict::Breach,
            (None, true) => Verdict::Clean,
            (None, false) => Verdict::Undecided,
        };
        Report {
            verdict,
            counts: fold.counts,
            partitions: fold.partitions.len(),
            elapsed_s: elapsed.as_secs_f64(),
            checks: lines,
            first_breach,
            pending,
            undecided,
        }
    }

    /// When the topics could not be read.
    pub fn unreadable(error: &anyhow::Error) -> Report {
        Report {
            verdict: Verdict::Undecided,
            counts: Counts::default(),
            partitions: 0,
            elapsed_s: 0.0,
            checks: Vec::new(),
            first_breach: None,
            pending: Vec::new(),
            undecided: vec![format!("{error:#}")],
        }
    }

    /// 0 clean, 1 breach, 2 undecided.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Clean => 0,
            Verdict::Breach => 1,
            Verdict::Undecided => 2,
        }
    }

    /// One JSON object.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Lines for a terminal.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).unwrap_or_default(); // Writing to a string cannot fail.
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let counts = &self.counts;
        writeln!(
            text,
            "{} records of {} partitions in {:.1} s; {} dead letters, {} expired outcomes",
            counts.records, self.partitions, self.elapsed_s, counts.dead_letters, counts.expired
        )?;
        let widths = |field: fn(&Line) -> &str| self.checks.iter().map(|line| field(line).len()).max().unwrap_or(0);
        let (sentence, scope) = (widths(|line| line.sentence), widths(|line| &line.scope));
        for line in &self.checks {
            let (name, result) = (&line.invariant, &line.result);
            writeln!(text, "{name}  {:sentence$}  {:scope$}  {result}", line.sentence, line.scope)?;
        }
        for found in self.checks.iter().flat_map(|line| &line.found) {
            writeln!(text, "  {}", found.line())?;
        }
        for cause in &self.undecided {
            writeln!(text, "cannot decide: {cause}")?;
        }
        for cause in self.pending.iter().take(PENDING_SHOWN) {
            writeln!(text, "{cause}")?;
        }
        if let Some(more) = self.pending.len().checked_sub(PENDING_SHOWN).filter(|more| *more > 0) {
            writeln!(text, "and {more} more")?;
        }
        match (&self.first_breach, self.verdict) {
            (Some(found), _) => writeln!(text, "audit: BREACH, first: {}", found.line()),
            (None, Verdict::Clean) => writeln!(text, "audit: clean"),
            (None, _) if self.pending.is_empty() => writeln!(text, "audit: undecided"),
            (None, _) => writeln!(
                text,
                "audit: undecided; let the work in flight finish (--wait-s), or start the processor of a store that is \
                 behind and stop it again, then ask again"
            ),
        }
    }
}

impl From<Check> for Line {
    fn from(check: Check) -> Line {
        let invariant = format!("{:?}", check.invariant);
        let found = |breach: Breach| Found {
            invariant: invariant.clone(),
            at: breach.at.map(|at| at.to_string()),
            what: breach.what,
        };
        let result = match (check.found.count, check.partial) {
            (0, false) => "holds".to_string(),
            (0, true) => "undecided".to_string(),
            (1, _) => "1 breach".to_string(),
            (count, _) => format!("{count} breaches"),
        };
        Line {
            sentence: check.sentence,
            scope: check.scope,
            result,
            breaches: check.found.count,
            found: check.found.first.into_iter().map(found).collect(),
            invariant,
        }
    }
}

impl Found {
    fn line(&self) -> String {
        match &self.at {
            Some(at) => format!("{} {at}: {}", self.invariant, self.what),
            None => format!("{}: {}", self.invariant, self.what),
        }
    }
}
