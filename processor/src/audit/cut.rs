//! The offsets up to which an audit reads: a cut through all topics, and why the system was not at rest there.
//!
//! Brokers tell the end of one partition after the other, and the system goes on meanwhile, so the order decides what
//! the ends mean together:
//!
//! 1. The inputs. What comes after them is of no concern, unless it shows in the outputs.
//! 2. The changelog. Its positions say how far the inputs are processed.
//! 3. The other outputs. A transaction whose position is in the cut has produced to all of them before it was
//!    committed, so their ends hold its records, or end before its marker, which shows as an open transaction. Taken
//!    before the changelog they could lack the answers of a command that the position calls processed.
//! 4. The inputs again. Where they did not move, nothing in the outputs is of a later command.

use super::facts::Topic;
use super::read::Ends;

/// The ends of all topics, as `ends` tells those of some, and what was under way meanwhile, a line each.
pub fn cut<E>(mut ends: impl FnMut(&[Topic]) -> Result<Ends, E>) -> Result<(Ends, Vec<String>), E> {
    let (inputs, outputs): (Vec<Topic>, Vec<Topic>) = Topic::ALL.into_iter().partition(|topic| topic.is_input());
    let outputs: Vec<Topic> = outputs.into_iter().filter(|topic| *topic != Topic::Changelog).collect();
    let mut cut = ends(&inputs)?;
    cut.extend(ends(&[Topic::Changelog])?);
    cut.extend(ends(&outputs)?);
    let after = ends(&inputs)?;
    let mut under_way = open_transactions(&cut);
    under_way.extend(arrivals(&cut, &after));
    Ok((cut, under_way))
}

fn open_transactions(cut: &Ends) -> Vec<String> {
    let open = cut.iter().filter(|(_, end)| end.stable < end.high);
    open.map(|((topic, partition), end)| {
        format!("{}-{partition}: pending: a transaction is open at {} of {}", topic.base(), end.stable, end.high)
    })
    .collect()
}

/// The first input that moved.
fn arrivals(cut: &Ends, after: &Ends) -> Option<String> {
    let mut moved = after.iter().filter(|(at, end)| cut.get(at).is_none_or(|earlier| earlier.high != end.high));
    moved.next().map(|((topic, partition), _)| format!("{}-{partition}: pending: records arrive", topic.base()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::read::End;
    use super::*;

    /// Ends that a broker is asked for in one cut: the first and the last of committed records of each topic.
    const QUESTIONS: usize = 2 * (Topic::ALL.len() + 2);
    /// Of the five states of `end`.
    const CHANGES: usize = 4;

    /// The end of a topic in the life of one command: nothing (0), the command (1), its transaction has produced (2),
    /// the first marker of its commit (3), all of them (4).
    fn end(topic: Topic, state: usize, first_marker: Topic) -> End {
        let (high, stable) = match (topic, state) {
            (Topic::Commands, 1..) => (1, 1),
            (Topic::TransferFeedback | Topic::Changelog, 2) => (1, 0),
            (Topic::TransferFeedback | Topic::Changelog, 3) if topic != first_marker => (1, 0),
            (Topic::TransferFeedback | Topic::Changelog, 3..) => (2, 2),
            _ => (0, 0),
        };
        End { low: 0, stable, high }
    }

    /// The cut when the states change before these questions.
    fn cut_of(changes: [usize; CHANGES], first_marker: Topic) -> (Ends, Vec<String>) {
        let mut questions = 0;
        let mut ask = |topic: Topic| {
            let state = changes.iter().filter(|before| **before <= questions).count();
            questions += 1;
            end(topic, state, first_marker)
        };
        let cut = cut(|topics| {
            let ends = topics.iter().map(|topic| {
                let high = ask(*topic).high;
                ((*topic, 0), End { high, ..ask(*topic) })
            });
            Ok::<Ends, Infallible>(ends.collect())
        });
        assert_eq!(questions, QUESTIONS);
        cut.unwrap()
    }

    #[test]
    fn where_all_is_processed_all_answers_are_in_the_cut_whenever_the_commit_came() {
        let mut at_rest = [0, 0];
        for first_marker in [Topic::Changelog, Topic::TransferFeedback] {
            for changes in rising() {
                let (cut, under_way) = cut_of(changes, first_marker);
                let [commands, processed, answers] = [Topic::Commands, Topic::Changelog, Topic::TransferFeedback]
                    .map(|topic| usize::from(cut[&(topic, 0)].stable > 0));
                if under_way.is_empty() && processed >= commands {
                    assert_eq!(answers, commands, "{changes:?}, {first_marker:?} first");
                    at_rest[commands] += 1;
                }
            }
        }
        assert!(at_rest.iter().all(|times| *times > 0), "before the command, and behind its answer: {at_rest:?}");
    }

    /// Every way in which the states can change in the course of a cut, before and after it.
    fn rising() -> impl Iterator<Item = [usize; CHANGES]> {
        let from = |first: usize| first..=QUESTIONS;
        from(0)
            .flat_map(move |a| from(a).flat_map(move |b| from(b).flat_map(move |c| from(c).map(move |d| [a, b, c, d]))))
    }
}
