//! `topics.yaml`: the one declaration of every topic, and what keeps a cluster as declared.

mod fields;
mod load;
mod suggest;
mod topology;

pub use load::TopologyError;
pub use topology::{Cleanup, Subjects, TopicSpec, Topology};
