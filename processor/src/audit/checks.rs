//! The standing invariants, judged over a fold. Pure.
//!
//! A system that still has work in flight has no consistent cut over its partitions, so most sentences are only
//! judged when everything is drained; what holds in every prefix is judged always. Nothing is guessed: what cannot be
//! decided is said to be undecided, with what is pending.
//!
//! Expired outcomes are no breach: the answer in the feedback topic outlives the row. An id that was used again after
//! its outcome had expired is a new command by contract, so its number of effects is not judged. Only time says that an
//! outcome may have expired, never a tombstone or a missing row: what was forgotten too early is the very breach that
//! would let a command be carried out twice.
//!
//! Dead letters are deleted after a while, commands are not. A command without any trace that may have had a letter
//! then is neither a breach nor in order.

use super::breach::{Breaches, Findings, Invariant};
use super::entries::{AccountFold, Answers, First, IdFold, Leg, OutcomeRow};
use super::facts::{At, Flow, Id, Kind, Topic, Verdict};
use super::fold::Fold;

/// The account that exists before the first client, and the balance it starts with in cents.
const COMPANY: (&str, i64) = ("NL66OPEN0000000000", 100_000_000_000_000_000);

/// What was found about one invariant.
#[derive(Debug)]
pub struct Check {
    /// Which one.
    pub invariant: Invariant,
    /// The sentence that was checked.
    pub sentence: &'static str,
    /// How much was looked at, in words.
    pub scope: String,
    /// What was found.
    pub found: Breaches,
    /// Only what holds in every prefix was judged.
    pub partial: bool,
}

/// Why the system counts as not drained, one line per partition or cause.
pub fn pending(fold: &Fold) -> Vec<String> {
    let inputs = [Topic::Commands, Topic::Transfers];
    let behind = fold.partitions.iter().enumerate().flat_map(|(number, partition)| {
        let next = partition.next_offset.unwrap_or_default();
        inputs.iter().zip(partition.input_end.into_iter().zip(next)).filter_map(move |(topic, (end, next))| {
            let count = end - next.unwrap_or(0);
            (count > 0).then(|| format!("{}-{number}: pending: {count}", topic.base()))
        })
    });
    behind.collect()
}

/// What was judged.
#[derive(Debug)]
pub struct Judged {
    /// I1 to I4.
    pub checks: Vec<Check>,
    /// What nobody can decide any more, in lines.
    pub undecided: Vec<String>,
}

/// What is collected on the way.
struct Judging {
    found: Findings,
    /// Commands without a trace that may have had a dead letter.
    untold: u64,
    /// An id that is younger must be remembered.
    remembered_ms: i64,
    /// Time of the latest record, milliseconds since 1970.
    newest_ms: i64,
}

/// Judges I1 to I4. `drained`: nothing is pending, so that every sentence can be judged. `outcome_retention_ms`: how
/// long the processors remember ids; a tenth less is judged, because the clocks of brokers differ.
pub fn judge(fold: &Fold, drained: bool, outcome_retention_ms: i64) -> Judged {
    let remembered_ms = outcome_retention_ms - outcome_retention_ms / 10;
    let mut judging = Judging { found: fold.findings.clone(), untold: 0, remembered_ms, newest_ms: fold.newest_ms };
    lowest_balances(fold, &mut judging.found);
    if drained {
        sum_of_money(fold, &mut judging.found);
        for (id, entry) in &fold.ids {
            one_outcome(*id, entry, &mut judging);
            both_or_none(*id, entry, &mut judging);
        }
        for (iban, account) in &fold.accounts {
            rows_agree(&iban.to_string(), account, &mut judging.found);
        }
        for (at, why) in &fold.unread_commands {
            let what = format!("this command has no dead letter, but cannot be read: {why}");
            judging.found.add(Invariant::I3, Some(*at), what);
        }
    }
    let Judging { found, untold, .. } = judging;
    Judged { checks: checks(fold, drained, found), undecided: undecided(untold) }
}

fn undecided(untold: u64) -> Vec<String> {
    let line = format!(
        "I3: {untold} commands have no answer and did nothing; they may have been dead letters, and letters of their \
         time were deleted"
    );
    if untold > 0 { vec![line] } else { vec![] }
}

fn checks(fold: &Fold, drained: bool, mut found: Findings) -> Vec<Check> {
    let accounts = format!("{} accounts", fold.accounts.len());
    let ids = format!("{} ids, {} commands, {} answers", fold.ids.len(), fold.counts.commands, fold.counts.feedbacks);
    let changes = format!("{} balance changes", fold.counts.balance_changes);
    let mut check = |invariant, sentence, scope: &str, any_prefix: bool| Check {
        invariant,
        sentence,
        scope: scope.to_string(),
        found: found.take(invariant),
        partial: !any_prefix && !drained,
    };
    vec![
        check(Invariant::I1, "sum of balances = seed + what entered - what left", &accounts, false),
        check(Invariant::I2, "no balance below its limit, every chain unbroken", &changes, true),
        check(Invariant::I3, "one outcome per command, one command per outcome", &ids, false),
        check(Invariant::I4, "a debit exists iff its credit does, rows = events", &changes, false),
    ]
}

/// I1. Credits without their debit cannot exist in a drained system (I4 says so), so no term stands for them here.
fn sum_of_money(fold: &Fold, found: &mut Findings) {
    let rows = fold.accounts.iter().filter_map(|(iban, account)| Some((iban, account.row?)));
    let mut sum = 0i128;
    let mut seed = 0i128;
    for (iban, row) in rows {
        sum += i128::from(row.balance);
        if iban.to_string() == COMPANY.0 {
            seed = i128::from(COMPANY.1);
        }
    }
    let expected = seed + fold.inflow;
    if sum != expected {
        let off = sum - expected;
        let what =
            format!("balances add up to {sum} cents, {off} off from {seed} seeded and {} that entered", fold.inflow);
        found.add(Invariant::I1, None, what);
    }
    for (iban, account) in &fold.accounts {
        let Some(chain) = account.chain else { continue };
        let due = if iban.to_string() == COMPANY.0 { COMPANY.1 } else { 0 };
        if chain.opening != due {
            found.add(
                Invariant::I1,
                None,
                format!("account {iban} began with {} cents, {due} were due", chain.opening),
            );
        }
    }
}

/// I2, for every balance that ever was.
fn lowest_balances(fold: &Fold, found: &mut Findings) {
    for (iban, account) in &fold.accounts {
        let Some(row) = account.row else { continue };
        if let Some(chain) = account.chain.filter(|chain| chain.lowest < row.limit) {
            let at = At { topic: Topic::BalanceChanged, partition: row.at.partition, offset: chain.lowest_offset };
            found.add(
                Invariant::I2,
                Some(at),
                format!("account {iban} fell to {}, its limit is {}", chain.lowest, row.limit),
            );
        }
        let available = row.balance.saturating_sub(row.reserved);
        if available < row.limit || row.reserved < 0 {
            let what =
                format!("account {iban}: balance {} less {} reserved, limit {}", row.balance, row.reserved, row.limit);
            found.add(Invariant::I2, Some(row.at), what);
        }
    }
}

/// I3 of one id.
fn one_outcome(id: Id, entry: &IdFold, judging: &mut Judging) {
    let feedback = |kind: Kind, offset| At {
        topic: if kind == Kind::Account { Topic::AccountFeedback } else { Topic::TransferFeedback },
        partition: id.partition,
        offset,
    };
    let Some(first) = entry.first else {
        let at = entry.answers.map(|answers| feedback(answers.kind, answers.offset));
        judging.found.add(Invariant::I3, at, format!("{id} has an outcome or an effect, but no command"));
        return;
    };
    let command = At { topic: Topic::Commands, partition: id.partition, offset: first.offset };
    let Some(answers) = entry.answers else {
        if left_no_trace(entry) {
            judging.untold += u64::from(entry.letterless);
            return;
        }
        let why = if matches!(entry.outcome, OutcomeRow::Present(Verdict::Pending, _)) {
            "is still PENDING though nothing is in flight"
        } else {
            "was never answered"
        };
        judging.found.add(Invariant::I3, Some(command), format!("command {id} {why}"));
        return;
    };
    let age_ms = judging.newest_ms.saturating_sub(first.at_ms);
    if matches!(entry.outcome, OutcomeRow::Absent | OutcomeRow::Expired) && age_ms < judging.remembered_ms {
        let what = format!(
            "command {id}: its outcome is gone {age_ms} ms after it, so the id is forgotten too early (ids are to be \
             remembered for the outcome retention)"
        );
        judging.found.add(Invariant::I3, Some(command), what);
    }
    let anew = used_anew(entry, judging.remembered_ms);
    if let Some(what) = row_against(entry.outcome, answers, anew) {
        judging.found.add(Invariant::I3, Some(feedback(answers.kind, answers.offset)), format!("command {id}: {what}"));
    }
    if anew {
        return;
    }
    if entry.disagrees {
        let what = format!("command {id} was answered differently later");
        judging.found.add(Invariant::I3, Some(feedback(answers.kind, answers.offset)), what);
    }
    if answers.kind != first.kind {
        judging.found.add(
            Invariant::I3,
            Some(feedback(answers.kind, answers.offset)),
            format!("{id} was answered as another kind of command"),
        );
    }
    count_answers(id, entry, first, answers, command, judging);
}

/// Whether nothing at all came of its commands, and each of them may have had a dead letter that was deleted. An
/// outcome that expired is a trace too.
fn left_no_trace(entry: &IdFold) -> bool {
    let untouched = matches!(entry.outcome, OutcomeRow::Absent) && !entry.expired;
    let answered = entry.conflicts != [0, 0] || entry.debit.count > 0 || entry.credit.count > 0;
    untouched && !answered && u32::from(entry.letterless) == entry.same + sum(entry.other)
}

fn sum(by_kind: [u16; 2]) -> u32 {
    by_kind.map(u32::from).iter().sum()
}

/// Every command that repeats an id repeats its answer; one that came while the transfer was under way shares it.
/// One that may have been a dead letter may lack its own: it was replayed later, or sent again by its client.
fn count_answers(id: Id, entry: &IdFold, first: First, answers: Answers, command: At, judging: &mut Judging) {
    let under_way = first.flow == Flow::Across;
    let enough = answers.count == entry.same || (under_way && (1..entry.same).contains(&answers.count));
    let [sent, refused] = [entry.other, entry.conflicts].map(sum);
    let unanswered = if enough { 0 } else { entry.same.saturating_sub(answers.count) };
    let lacking = unanswered + sent.saturating_sub(refused);
    let too_many = answers.count > entry.same || entry.conflicts.iter().zip(entry.other).any(|(of, sent)| *of > sent);
    if !too_many && lacking <= u32::from(entry.letterless) {
        judging.untold += u64::from(lacking);
        return;
    }
    if !enough {
        let what = format!("command {id} was sent {} times and answered {} times", entry.same, answers.count);
        judging.found.add(Invariant::I3, Some(command), what);
    }
    if entry.conflicts != entry.other {
        let what = format!("{id} was used {sent} times with another body, and that was refused {refused} times");
        judging.found.add(Invariant::I3, Some(command), what);
    }
}

/// The row of the outcome table against the answers. A row that is gone has expired; that of an id that was used anew
/// is of a later command than the first answer.
fn row_against(outcome: OutcomeRow, answers: Answers, anew: bool) -> Option<&'static str> {
    match outcome {
        OutcomeRow::Absent | OutcomeRow::Expired => None,
        OutcomeRow::Present(Verdict::Pending, _) => Some("answered, but the outcome is PENDING"),
        OutcomeRow::Present(..) if anew => None,
        OutcomeRow::Present(verdict, answer) => {
            let same = (verdict == Verdict::Confirmed) == answers.confirmed && answer == answers.answer;
            (!same).then_some("the answer is not what the outcome says")
        }
    }
}

/// Whether the id may have stood for several commands, one after the other had expired. An outcome is not older than
/// its command, so within the retention none can have expired.
fn used_anew(entry: &IdFold, remembered_ms: i64) -> bool {
    entry.span_ms() > remembered_ms && (entry.same > 1 || entry.other != [0, 0])
}

/// I4 of one id: what a confirmed command must have moved, and nothing for any other.
fn both_or_none(id: Id, entry: &IdFold, judging: &mut Judging) {
    let Some(first) = entry.first else { return };
    if used_anew(entry, judging.remembered_ms) {
        return;
    }
    let confirmed = entry.answers.is_some_and(|answers| answers.confirmed && answers.kind == Kind::Transfer);
    let flow = if confirmed { first.flow } else { Flow::Nothing };
    let (debits, credits) = match flow {
        Flow::Nothing => (0, 0),
        Flow::Within | Flow::Across => (1, 1),
        Flow::Enters => (0, 1),
        Flow::Leaves => (1, 0),
    };
    let state = if confirmed { "confirmed" } else { "not confirmed" };
    for (name, leg, due, sign) in [("debit", entry.debit, debits, -1), ("credit", entry.credit, credits, 1)] {
        if let Some(wrong) = wrong_leg(leg, due, first, sign) {
            let command = At { topic: Topic::Commands, partition: id.partition, offset: first.offset };
            let what = format!("transfer {id} ({state}, {} cents, {command}): {name} {wrong}", first.amount);
            judging.found.add(Invariant::I4, leg.at().or(Some(command)), what);
        }
    }
    if confirmed && first.flow == Flow::Nothing {
        judging.found.add(Invariant::I4, None, format!("transfer {id} was confirmed, but its parties cannot be"));
    }
}

fn wrong_leg(leg: Leg, due: u16, first: First, sign: i64) -> Option<String> {
    if leg.count != due {
        return Some(format!("events: {}, due: {due}", leg.count));
    }
    if due == 0 {
        return None;
    }
    if leg.sum != first.amount.saturating_mul(sign) {
        return Some(format!("of {} cents", leg.sum));
    }
    (leg.parties != first.parties).then(|| "between other parties than the command's".to_string())
}

/// The row of an account is what its changes add up to, and nothing is reserved any more.
fn rows_agree(iban: &str, account: &AccountFold, found: &mut Findings) {
    let Some(row) = account.row else {
        found.add(Invariant::I4, None, format!("account {iban} has events or an owner, but no row in the changelog"));
        return;
    };
    let opening = if iban == COMPANY.0 { COMPANY.1 } else { 0 };
    let (balance, sequence) = account.chain.map_or((opening, 0), |chain| (chain.balance, chain.sequence));
    if (row.balance, row.sequence) != (balance, sequence) {
        let what = format!(
            "account {iban}: the row says {} after {} changes, the events say {balance} after {sequence}",
            row.balance, row.sequence
        );
        found.add(Invariant::I4, Some(row.at), what);
    }
    if row.reserved != 0 {
        found.add(
            Invariant::I4,
            Some(row.at),
            format!("account {iban}: {} cents are reserved for nothing", row.reserved),
        );
    }
    if account.opened_by.is_none() && iban != COMPANY.0 {
        found.add(Invariant::I3, Some(row.at), format!("account {iban} was opened by no command"));
    }
}
