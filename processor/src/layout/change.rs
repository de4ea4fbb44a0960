//! A change of layout, step by step.
//!
//! The order makes it safe to end anywhere. A shard that is sealed belongs to nobody until the new layout is assigned; one
//! that is not still belongs to the old layout, whose owner may even come back and go on; the assignment comes last, so
//! where it is, everything is sealed. Begun again, the change reads what is done and does the rest.

use schemas::records::{Assignment, Position};
use schemas::{Encoder, SchemaCache};

use super::{Layout, control, seal, survey};
use crate::clock::SharedClock;
use crate::control::ControlReadError;
use crate::fault::{Fault, LogError};
use crate::log::{Log, TopicId};
use crate::topology::Definition;

/// Where a change takes place.
pub struct Site<'s, L> {
    /// The log.
    pub log: &'s L,
    /// Time.
    pub clock: &'s SharedClock,
    /// The topology as it is configured: its layout is the one to change to.
    pub definition: &'s Definition,
    /// The control topic, if the application has one.
    pub control: Option<TopicId>,
    /// Writer schemas.
    pub schemas: &'s SchemaCache,
    /// Of Position records.
    pub position: Encoder<Position>,
    /// Of the assignment.
    pub assignment: Encoder<Assignment>,
}

/// Why a change did not go on. What was done stays done.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Not before something else is changed.
    #[error("{0}")]
    Refused(String),
    /// Run it again.
    #[error("{0}; what is done stays done: run it again")]
    Again(String),
}

impl From<LogError> for ChangeError {
    fn from(error: LogError) -> ChangeError {
        ChangeError::Again(error.to_string())
    }
}

impl From<ControlReadError> for ChangeError {
    fn from(error: ControlReadError) -> ChangeError {
        match error {
            ControlReadError::Log(error) => error.into(),
            ControlReadError::Late => {
                let reason = "the control topic cannot be read to its end: is the broker slow, or a leader at work?";
                ChangeError::Again(reason.to_owned())
            }
            ControlReadError::Record(error) => ChangeError::Refused(format!("the control topic: {error}")),
        }
    }
}

impl From<Fault> for ChangeError {
    fn from(fault: Fault) -> ChangeError {
        match fault {
            Fault::Fenced(reason) => {
                ChangeError::Again(format!("an instance has begun meanwhile ({reason}): stop all instances"))
            }
            fault => ChangeError::Again(fault.to_string()),
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This shard of the old layout is sealed.
    Sealed(i32),
    /// It was already.
    WasSealed(i32),
    /// The new layout is in force, under this epoch of the assignment.
    Published(Option<i64>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Change {
    /// The layout that is left.
    pub from: Layout,
    /// The layout that begins.
    pub to: Layout,
    shard: i32,
    published: bool,
}

impl Change {
    /// What has to be done for the configured layout; `None`: nothing. Writes nothing.
    pub fn plan<L: Log>(site: &Site<'_, L>) -> Result<Option<Change>, ChangeError> {
        let to = site.definition.placement();
        let from = survey(site)?.source(to)?;
        Ok(from.map(|from| Change { from, to, shard: 0, published: false }))
    }

    /// The next step; `None` when all are done.
    pub fn step<L: Log>(&mut self, site: &Site<'_, L>) -> Result<Option<Step>, ChangeError> {
        if self.shard < self.from.shards {
            let shard = self.shard;
            let sealed = seal::seal(site, self.from, self.to, shard)?;
            self.shard += 1;
            return Ok(Some(if sealed { Step::Sealed(shard) } else { Step::WasSealed(shard) }));
        }
        if self.published {
            return Ok(None);
        }
        let epoch = control::publish(site, self.to)?;
        self.published = true;
        Ok(Some(Step::Published(epoch)))
    }
}
