//! What the state says about its layout, and what is to be done to change it. Reads only.

use std::collections::BTreeMap;

use schemas::control::Directory;

use super::change::{ChangeError, Site};
use super::{Layout, control, tail};
use crate::log::Log;

/// What the topics say now.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Partitions by the layout that their last Position names.
    pub partitions: BTreeMap<Layout, Vec<i32>>,
    /// Partitions that name none: nothing has run there.
    pub unnamed: Vec<i32>,
    /// The control topic.
    pub directory: Directory,
}

/// Looks. With instances running it may be a transaction behind.
pub fn survey<L: Log>(site: &Site<'_, L>) -> Result<Survey, ChangeError> {
    let all: Vec<i32> = (0..site.definition.topics.partitions).collect();
    let positions = tail::positions(site, &all, tail::Open::Tolerated)?;
    let mut survey = Survey { directory: control::read(site)?, ..Survey::default() };
    for partition in all {
        match Layout::of_position(positions.get(&partition)) {
            Some(layout) => survey.partitions.entry(layout).or_default().push(partition),
            None => survey.unnamed.push(partition),
        }
    }
    Ok(survey)
}

impl Survey {
    /// The layout of the assignment, if there ever was one.
    pub fn assigned(&self) -> Option<Layout> {
        self.directory.assignment.as_ref().map(Layout::of_assignment)
    }

    /// The layout to leave for `to`; `None`: nothing is left to do.
    ///
    /// # Errors
    /// When `to` is not a later one, or when another change was begun and not ended.
    pub fn source(&self, to: Layout) -> Result<Option<Layout>, ChangeError> {
        let mut others: Vec<Layout> = self.partitions.keys().copied().chain(self.assigned()).collect();
        others.retain(|layout| *layout != to);
        others.sort();
        others.dedup();
        let (Some(first), last) = (others.first().copied(), others.last().copied().unwrap_or_default()) else {
            return Ok(None);
        };
        if last.number >= to.number {
            let reason = if last.number == to.number {
                format!(
                    "the state is of {last}, configured is {to}: raise `layout` in topics.yaml to {}",
                    to.number + 1
                )
            } else {
                format!("the state is of {last}, configured is {to}: a layout is never gone back to, raise `layout`")
            };
            return Err(ChangeError::Refused(reason));
        }
        if first != last {
            return Err(ChangeError::Refused(format!(
                "a change from {first} to {last} was begun and not ended; configure {last} and end it first"
            )));
        }
        Ok(Some(first))
    }
}
