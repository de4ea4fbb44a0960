//! Makes a cluster as declared.
//!
//! Look, compare, act, and look again until nothing is left: so a lost answer, a slow controller and a second `apply`
//! at the same time need no case of their own.

use serde::Serialize;

use super::cluster::Target;
use super::compare::{Action, Plan};
use super::plan::{Deadline, Parts, TopicsError};
use super::report::describe;
use super::topology::Topology;

/// What `apply` did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// In order; one that had to be repeated stands there once.
    pub actions: Vec<Action>,
    /// As of [`Plan`].
    pub warnings: Vec<String>,
    /// As of [`Plan`].
    pub unknown: Vec<String>,
    /// As of [`Plan`].
    pub notes: Vec<String>,
}

/// Creates, changes and registers what is missing, and deletes unknown topics when told to. Refuses, before it changes
/// anything, a topic with another number of partitions. `progress` gets a line before each step.
pub async fn apply(
    target: &Target,
    topology: &Topology,
    delete_unknown: bool,
    mut progress: impl FnMut(&str) + Send,
) -> Result<Applied, TopicsError> {
    let parts = Parts::connect(target, topology)?;
    let until = Deadline::of(target);
    let mut applied = Applied::default();
    for round in 0.. {
        let state = until.retry(async || parts.state(topology).await).await?;
        let plan = Plan::between(topology, &state, delete_unknown);
        if !plan.refusals.is_empty() {
            return Err(TopicsError::Refused(plan.refusals.iter().map(ToString::to_string).collect()));
        }
        if round == 0 {
            plan.notes.iter().chain(&plan.warnings).for_each(|line| progress(line));
        }
        if plan.actions.is_empty() {
            applied.warnings = plan.warnings;
            applied.unknown = plan.unknown;
            applied.notes.extend(plan.notes);
            return Ok(applied);
        }
        if until.is_over() {
            let left: Vec<String> = plan.actions.iter().map(describe).collect();
            return Err(TopicsError::Deadline { waited_s: until.waited_s(), left: left.join("; ") });
        }
        if round > 0 {
            // The cluster needs a moment to show what was done, or something has to be done again.
            until.pause(round - 1).await;
        }
        act(&parts, plan.actions, &mut applied, &mut progress).await?;
    }
    Ok(applied)
}

/// One round. What fails for a reason that may pass is left to the next.
async fn act(
    parts: &Parts,
    actions: Vec<Action>,
    applied: &mut Applied,
    progress: &mut (impl FnMut(&str) + Send),
) -> Result<(), TopicsError> {
    for action in actions {
        let is_new = !applied.actions.contains(&action);
        if is_new {
            progress(&describe(&action));
        }
        match execute(parts, &action).await {
            Ok(()) if is_new => applied.actions.push(action),
            Ok(()) => {}
            Err(error) if error.is_transient() => progress(&format!("{error}; trying again")),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn execute(parts: &Parts, action: &Action) -> Result<(), TopicsError> {
    match action {
        Action::CreateTopic { topic, partitions, replication, config } => {
            Ok(parts.cluster.create(topic, *partitions, *replication, config).await?)
        }
        Action::AlterConfig { topic, changes } => Ok(parts.cluster.alter(topic, changes).await?),
        Action::DeleteTopic { topic } => Ok(parts.cluster.delete(topic).await?),
        Action::SetCompatibility { subject, to, .. } => Ok(parts.registry.set_compatibility(subject, to).await?),
        Action::RegisterSchema { subject, record } => Ok(parts.registry.register(subject, record).await?),
    }
}
