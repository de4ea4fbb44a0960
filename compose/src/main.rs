//! `stack`: the command line over the crate. `compose/up`, `compose/scale` and `compose/down` are thin scripts around
//! it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kontor_compose::config::{Config, Selection};
use kontor_compose::console::Console;
use kontor_compose::error::{Error, Result};
use kontor_compose::ports::{self, MAX_GATEWAYS, MAX_INSTANCES, Ports};
use kontor_compose::stackfile::{Phase, StackFile};
use kontor_compose::{banner, down, graphiql, java, kafka, registry, scale, supervisor, up};

/// Runs Kafka, the schema registry, the processors and the gateways on this machine, without containers.
#[derive(Parser)]
#[command(name = "stack", version, after_help = ports::TABLE)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a stack; Ctrl-C stops it. Data in DIR survives.
    #[command(after_help = ports::TABLE)]
    Up(UpArgs),
    /// Start or stop processors of a stack that is up, until it has N. The state of those that leave stays.
    Scale(ScaleArgs),
    /// Stop the stack of a directory, also one whose supervisor was killed. Data stays.
    Down(DirArgs),
    /// Say what runs. Exit code 0 when the stack is up, 3 when it is not.
    Status(StatusArgs),
    /// Download what a stack needs into the cache, and start nothing.
    Fetch,
    /// What `up --detach` runs in the background.
    #[command(hide = true)]
    Supervise(UpArgs),
}

#[derive(Args)]
struct DirArgs {
    /// Directory of the stack.
    #[arg(long, default_value = ".kontor")]
    dir: PathBuf,
}

#[derive(Args)]
struct ScaleArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Number of processors, 1 to 6. Those with the highest numbers leave.
    #[arg(value_name = "N", allow_negative_numbers = true)]
    instances: String,
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Print the whole stack.json.
    #[arg(long)]
    json: bool,
    /// Print nothing unless the stack is up.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct UpArgs {
    #[command(flatten)]
    at: DirArgs,
    /// First port of the stack; 0 takes a free range. Default: as last time in this directory, else 8180.
    #[arg(long, value_name = "P")]
    port_base: Option<u16>,
    /// Number of gateways.
    #[arg(long, value_name = "N", default_value_t = 1)]
    gateways: u16,
    /// Number of processors, which share the shards. Default: 1.
    #[arg(long, value_name = "N")]
    instances: Option<u16>,
    /// Go on in the background once everything is ready.
    #[arg(long)]
    detach: bool,
    /// Forget all earlier data of this directory first.
    #[arg(long)]
    fresh: bool,
    /// Start only these, comma-separated: kafka, registry, topics, processor, gateway.
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<String>,
    /// Declaration of topics to copy into the directory first. Default: the copy of last time.
    #[arg(long, value_name = "FILE")]
    topics: Option<PathBuf>,
    /// Put before every topic name.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Broker settings for tests: fast deletion and compaction, less warm-up.
    #[arg(long)]
    for_tests: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Action::Up(args) => run_up(&args),
        Action::Supervise(args) => run_supervise(&args),
        Action::Scale(args) => run_scale(&args),
        Action::Down(args) => run_down(&args),
        Action::Status(args) => run_status(&args),
        Action::Fetch => run_fetch(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run_up(args: &UpArgs) -> Result<ExitCode> {
    let dir = make_absolute(&args.at.dir)?;
    let console = Console::terminal();
    put_aside_broken(&dir, &console)?;
    if let Some(file) = up::running(&dir)? {
        return already_running(&file, args, &console);
    }
    up::check_ours(&dir)?;
    if let Some(topics) = &args.topics {
        up::adopt_topics(&dir, topics)?;
    }
    let config = resolve(args, &dir)?;
    supervisor::put_aside_if_long(&config.log("stack"))?;
    if !args.detach {
        supervise(&config, args.fresh, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !up::detach(&config, &arguments_of_supervisor(&config, args), &console)? {
        return Ok(ExitCode::FAILURE);
    }
    if let Some(file) = up::running(&dir)? {
        console.say(banner::banner(&file));
        console.say(format!("stop it with: compose/down --dir {}", dir.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn put_aside_broken(dir: &Path, console: &Console) -> Result<()> {
    if let Some(why) = StackFile::put_aside_broken(dir)? {
        console.say(format!("put aside as stack.json.broken: {why}"));
    }
    Ok(())
}

fn already_running(file: &StackFile, args: &UpArgs, console: &Console) -> Result<ExitCode> {
    let dir = file.dir.display();
    if args.fresh || file.phase != Phase::Ready {
        let what = banner::headline(file);
        return Err(Error::Running(format!("{what}: end it first with compose/down --dir {dir}")));
    }
    console.say(format!("{} already", banner::headline(file)));
    console.say(banner::banner(file));
    if let Some(number) = args.instances.filter(|number| usize::from(*number) != file.processors.len()) {
        console.say(format!("it stays as it is; for {number} processors: compose/scale {number} --dir {dir}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The same wish, with every choice made, so that both processes mean the same ports.
fn arguments_of_supervisor(config: &Config, args: &UpArgs) -> Vec<String> {
    let mut all: Vec<String> = vec!["supervise".into()];
    let mut option = |name: &str, value: String| all.extend([name.to_string(), value]);
    option("--dir", config.dir.display().to_string());
    option("--port-base", config.ports.base().to_string());
    option("--gateways", config.gateways.to_string());
    option("--instances", config.instances.to_string());
    option("--prefix", config.prefix.clone());
    if !args.only.is_empty() {
        option("--only", args.only.join(","));
    }
    for (flag, given) in [("--fresh", args.fresh), ("--for-tests", args.for_tests)] {
        if given {
            all.push(flag.into());
        }
    }
    all
}

fn run_supervise(args: &UpArgs) -> Result<ExitCode> {
    // A session of its own: it outlives the terminal.
    let _ = rustix::process::setsid();
    let dir = make_absolute(&args.at.dir)?;
    let config = resolve(args, &dir)?;
    Ok(match supervise(&config, args.fresh, false) {
        Ok(()) => ExitCode::SUCCESS,
        // It was said in the log, which the starting `up` shows.
        Err(_) => ExitCode::FAILURE,
    })
}

fn supervise(config: &Config, fresh: bool, terminal: bool) -> Result<()> {
    let logs = config.dir.join("logs");
    std::fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
    let console = Console::with_log(&config.log("stack"), terminal)?;
    let outcome = up::supervise(config, fresh, &console);
    if let Err(error) = &outcome
        && !terminal
    {
        console.say(format!("error: {error}"));
    }
    outcome
}

fn resolve(args: &UpArgs, dir: &Path) -> Result<Config> {
    if args.gateways == 0 || args.gateways > MAX_GATEWAYS {
        return Err(Error::Usage(format!("--gateways takes 1 to {MAX_GATEWAYS}")));
    }
    let instances = args.instances.unwrap_or(1);
    if instances == 0 || instances > MAX_INSTANCES {
        return Err(Error::Usage(format!("--instances takes 1 to {MAX_INSTANCES}")));
    }
    let earlier = StackFile::read(&StackFile::path(dir))?.map(|file| file.port_base);
    let ports = match args.port_base {
        Some(0) => Ports::free()?,
        Some(base) => Ports::new(base)?,
        None => Ports::new(earlier.unwrap_or(ports::DEFAULT_BASE))?,
    };
    let parts = if args.only.is_empty() { Selection::all() } else { Selection::only(&args.only)? };
    Ok(Config {
        dir: dir.to_path_buf(),
        ports,
        gateways: args.gateways,
        instances,
        parts,
        prefix: args.prefix.clone(),
        for_tests: args.for_tests,
    })
}

fn make_absolute(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    std::fs::canonicalize(dir).map_err(Error::io("find", dir))
}

/// For commands that must not make the directory.
fn absolute(dir: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(dir).map_err(|_| Error::NotRunning { dir: dir.to_path_buf() })
}

fn run_scale(args: &ScaleArgs) -> Result<ExitCode> {
    // Parsed here: what is no number is refused in the same line as one that cannot be.
    let number = args.instances.parse().unwrap_or_default();
    if number == 0 || number > MAX_INSTANCES {
        let given = &args.instances;
        return Err(Error::Usage(format!("scale takes the number of processors, 1 to {MAX_INSTANCES}, not {given:?}")));
    }
    scale::scale(&absolute(&args.at.dir)?, number, &Console::terminal())?;
    Ok(ExitCode::SUCCESS)
}

fn run_down(args: &DirArgs) -> Result<ExitCode> {
    let (dir, console) = (absolute(&args.dir)?, Console::terminal());
    put_aside_broken(&dir, &console)?;
    down::down(&dir, &console)?;
    Ok(ExitCode::SUCCESS)
}

fn run_status(args: &StatusArgs) -> Result<ExitCode> {
    let not_up = ExitCode::from(3);
    let Ok(dir) = absolute(&args.at.dir) else {
        return Ok(not_up);
    };
    let Some(file) = StackFile::read(&StackFile::path(&dir))? else {
        return Ok(not_up);
    };
    let up = up::running(&dir)?.is_some_and(|f| f.phase == Phase::Ready);
    let console = Console::terminal();
    if args.json {
        console.say(serde_json::to_string_pretty(&file).unwrap_or_default());
    } else if up || !args.quiet {
        console.say(banner::headline(&file));
        console.say(banner::status(&file));
        if up {
            console.say(banner::banner(&file));
        }
    }
    Ok(if up { ExitCode::SUCCESS } else { not_up })
}

fn run_fetch() -> Result<ExitCode> {
    let console = Console::terminal();
    let java = java::find_or_fetch(&console)?;
    let (kafka, registry) = (kafka::fetch(&console)?, registry::fetch(&console)?);
    let graphiql = graphiql::fetch(&console)?;
    for (name, path) in [("java", java), ("kafka", kafka), ("registry", registry), ("graphiql", graphiql)] {
        console.say(format!("{name:<10} {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_processors_is_refused_in_one_line() {
        for (given, words) in [
            ("0", "1 to 6, not \"0\""),
            ("7", "1 to 6, not \"7\""),
            ("-1", "1 to 6, not \"-1\""),
            ("two", "1 to 6, not \"two\""),
            ("6", "no stack runs in /nonexistent"),
        ] {
            let cli = Cli::try_parse_from(["stack", "scale", given, "--dir", "/nonexistent"]).unwrap();
            let Action::Scale(args) = cli.command else { panic!("{given}") };
            let message = run_scale(&args).unwrap_err().to_string();
            assert!(message.contains(words) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn the_supervisor_is_told_every_choice() {
        let cli = Cli::try_parse_from(["stack", "up", "--instances", "3", "--gateways", "2", "--port-base", "19000"]);
        let Action::Up(args) = cli.unwrap().command else { panic!("up") };
        let config = resolve(&args, Path::new("/nonexistent")).unwrap();
        let arguments = arguments_of_supervisor(&config, &args);
        let told = Cli::try_parse_from(["stack".to_string()].into_iter().chain(arguments)).unwrap();
        let Action::Supervise(args) = told.command else { panic!("supervise") };
        let heard = resolve(&args, Path::new("/nonexistent")).unwrap();
        assert_eq!((heard.instances, heard.gateways, heard.ports), (3, 2, config.ports));
    }
}
