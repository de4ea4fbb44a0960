//! Refuses to run on topics that are not as declared.
//!
//! Topics are always checked. Schemas are checked where the registry answers; while it does not, the ids in the cache
//! file are those of an earlier start that was checked.

use schemas::topics::{self, Target, Topology, VerifyError};

use crate::config::RunArgs;

/// Checks the declared topics against the cluster; an error names every mismatch and the way out.
pub async fn topics(args: &RunArgs, topology: &Topology) -> anyhow::Result<()> {
    let target = Target::new(args.bootstrap.clone(), args.registry.clone());
    match topics::verify(&target, topology).await {
        Ok(()) => Ok(()),
        Err(VerifyError::Topics(error)) if error.is_transient() => {
            tracing::warn!(%error, "not everything could be checked; checking the topics alone");
            Ok(topics::verify_topics(&target, topology).await?)
        }
        Err(error) => Err(error.into()),
    }
}
