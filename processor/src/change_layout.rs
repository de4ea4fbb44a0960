//! `processor layout`: which layout of shards the state is of, and changing it to the configured one.
//!
//! For an operator with all instances stopped. It reads topics and stores nothing locally; what a change is and why it
//! may end anywhere is told in the engine's `layout`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use processor::clock::SystemClock;
use processor::layout::{Change, Layout, Site, Step, Survey, control, survey};
use processor::log::Log;
use processor::log::kafka::{KafkaLog, KafkaOptions};
use schemas::topics;

use crate::bank_app::{self, Encoders};
use crate::config::ClusterArgs;

/// A member that lives is heard of twenty times meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// Show the layout of shards that the state is of, or change it to the configured one.
///
/// To change it: stop all instances, give `shards` its new number in topics.yaml and raise `layout`, run `processor
/// layout --apply`, start the instances with the same file. After a failure run it again.
///
/// Exit codes: 0 the state is of the configured layout, 1 not.
#[derive(clap::Args, Clone, Debug)]
pub struct LayoutArgs {
    /// Of the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Change it. Refused while an instance lives.
    #[arg(long)]
    pub apply: bool,
}

/// Runs the command.
pub fn run(args: LayoutArgs) -> anyhow::Result<ExitCode> {
    let topology = args.cluster.topology()?;
    let target = args.cluster.target();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Also that the topics have as many partitions as declared: those never change.
    runtime.block_on(topics::verify_topics(&target, &topology))?;
    let schemas = args.cluster.schemas(None)?;
    schemas.resolve(&topology)?;
    let encoders = Encoders::resolve(&topology, &schemas)?;
    let (definition, topics) = bank_app::definition(&topology, &schemas, &encoders)?;
    let options = KafkaOptions {
        bootstrap: args.cluster.bootstrap.clone(),
        group: "kontor-layout".to_owned(),
        client_id: "layout".to_owned(),
        prefetch_bytes: 4 << 20,
        extra: Vec::new(),
    };
    let log = KafkaLog::new(options, definition.topics.clone())?;
    let site = Site {
        log: &log,
        clock: &SystemClock::shared(),
        definition: &definition,
        control: Some(topics.control),
        schemas: &schemas,
        position: encoders.position,
        assignment: encoders.assignment,
    };
    if args.apply { apply(&site) } else { show(&site) }
}

fn show<L: Log>(site: &Site<'_, L>) -> anyhow::Result<ExitCode> {
    let found = survey(site)?;
    let configured = site.definition.placement();
    print!("{}", table(&found, configured));
    match found.source(configured)? {
        None => Ok(ExitCode::SUCCESS),
        Some(_) => {
            println!("to change it: stop all instances and run `processor layout --apply`");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn table(found: &Survey, configured: Layout) -> String {
    let mut out = format!("configured  {configured}\n");
    for (layout, partitions) in &found.partitions {
        out.push_str(&format!("state       {layout}: {} partitions\n", partitions.len()));
    }
    if !found.unnamed.is_empty() {
        out.push_str(&format!("state       none yet: {} partitions\n", found.unnamed.len()));
    }
    if let Some(assigned) = found.assigned() {
        out.push_str(&format!("assignment  {assigned}, epoch {}\n", found.directory.epoch()));
    }
    out
}

fn apply<L: Log>(site: &Site<'_, L>) -> anyhow::Result<ExitCode> {
    let living = control::living(site, PATIENCE)?;
    anyhow::ensure!(living.is_empty(), "instances run: {}; stop all of them first", living.join(", "));
    let planned = Change::plan(site).context("the layout cannot be changed")?;
    let Some(mut change) = planned else {
        println!("nothing to do: the state is of {}", site.definition.placement());
        return Ok(ExitCode::SUCCESS);
    };
    while let Some(step) = change.step(site).context("the layout is not changed yet")? {
        match step {
            Step::Sealed(shard) => println!("shard {shard} of {} is sealed", change.from),
            Step::WasSealed(shard) => println!("shard {shard} of {} was sealed before", change.from),
            Step::Published(Some(epoch)) => println!("{} is in force, epoch {epoch}", change.to),
            Step::Published(None) => println!("{} is in force", change.to),
        }
    }
    Ok(ExitCode::SUCCESS)
}
