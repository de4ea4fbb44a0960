//! Our own services as children: what a processor and a gateway are told through their environment.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::spec::Spec;

/// Names the instance that a processor is, among all that share the shards.
pub const INSTANCE_VARIABLE: &str = "KONTOR_INSTANCE";

/// Tells a gateway where the scripts of GraphiQL are.
pub const GRAPHIQL_VARIABLE: &str = "KONTOR_GRAPHIQL_DIR";

/// Where a service finds the rest of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// `127.0.0.1:port` of Kafka.
    pub bootstrap: String,
    /// Base address of the registry's Confluent API.
    pub registry: String,
    /// Path of topics.yaml.
    pub topics: PathBuf,
    /// Put before every topic name.
    pub prefix: String,
}

impl Surroundings {
    fn environment(&self) -> Vec<(String, std::ffi::OsString)> {
        vec![
            ("KONTOR_BOOTSTRAP".into(), (&self.bootstrap).into()),
            ("KONTOR_REGISTRY".into(), (&self.registry).into()),
            ("KONTOR_TOPICS".into(), (&self.topics).into()),
            ("KONTOR_PREFIX".into(), (&self.prefix).into()),
        ]
    }
}

/// The environment of a processor that keeps its state in `dir` and listens on 127.0.0.1.
pub fn processor_environment(
    around: &Surroundings,
    dir: &Path,
    grpc: u16,
    http: u16,
    secret: &Path,
) -> Vec<(String, std::ffi::OsString)> {
    let mut all = around.environment();
    all.extend([
        ("KONTOR_STATE_DIR".into(), dir.join("state").into()),
        ("KONTOR_GRPC_LISTEN".into(), format!("127.0.0.1:{grpc}").into()),
        ("KONTOR_HTTP_LISTEN".into(), format!("127.0.0.1:{http}").into()),
        ("KONTOR_TOKEN_SECRET_FILE".into(), secret.into()),
    ]);
    all
}

/// The environment of a gateway. Where the processors are it reads from the control topic.
pub fn gateway_environment(around: &Surroundings, dir: &Path, listen: u16) -> Vec<(String, std::ffi::OsString)> {
    let mut all = around.environment();
    all.extend([
        ("KONTOR_LISTEN".into(), format!("127.0.0.1:{listen}").into()),
        ("KONTOR_CACHE_FILE".into(), dir.join("schemas.json").into()),
    ]);
    all
}

/// What a stack's services are told.
pub fn surroundings(config: &Config) -> Surroundings {
    Surroundings {
        bootstrap: config.bootstrap(),
        registry: config.registry(),
        topics: config.topics(),
        prefix: config.prefix.clone(),
    }
}

/// Directory of the first processor. It has no number: here a stack kept its only processor before it could have
/// several, and the secret that all of them share. So a directory with accounts in it starts as it is; a move of state
/// and secret to other names could be cut short, and every token depends on the secret.
const FIRST_PROCESSOR_DIR: &str = "processor";

/// Processor number `number` of a stack, from 1; its directory and the secret of all are made. Its name is that of its
/// part, so it has the same one whenever it is started over its state.
pub fn processor(config: &Config, number: u16) -> Result<Spec> {
    let name = format!("processor-{number}");
    let secret = directory(config, FIRST_PROCESSOR_DIR)?.join("token-secret");
    ensure_secret(&secret)?;
    let dir = directory(config, if number == 1 { FIRST_PROCESSOR_DIR } else { &name })?;
    let (grpc, http) = (config.ports.processor_grpc(number), config.ports.processor_http(number));
    let mut env = processor_environment(&surroundings(config), &dir, grpc, http, &secret);
    env.push((INSTANCE_VARIABLE.into(), (&name).into()));
    Ok(Spec {
        program: config.program("processor"),
        args: vec!["run".into()],
        env,
        log: config.log(&name),
        own_log: None,
        health: Health::Http(format!("http://127.0.0.1:{http}/readyz")),
        ready_within: Duration::from_secs(120),
        patience: Duration::from_secs(15),
        stop_rank: Spec::stop_rank_of(&name),
        name,
        dir,
    })
}

/// Gateway number `number` of a stack, from 1; its directory is made. `graphiql`: where GraphiQL's scripts are, if they are.
pub fn gateway(config: &Config, number: u16, graphiql: Option<&Path>) -> Result<Spec> {
    let name = format!("gateway-{number}");
    let dir = directory(config, &name)?;
    let listen = config.ports.gateway(number);
    let mut env = gateway_environment(&surroundings(config), &dir, listen);
    env.extend(graphiql.map(|scripts| (GRAPHIQL_VARIABLE.into(), scripts.into())));
    Ok(Spec {
        program: config.program("gateway"),
        args: Vec::new(),
        env,
        log: config.log(&name),
        own_log: None,
        health: Health::Http(format!("http://127.0.0.1:{listen}/readyz")),
        ready_within: Duration::from_secs(120),
        patience: Duration::from_secs(15),
        stop_rank: Spec::stop_rank_of(&name),
        name,
        dir,
    })
}

fn directory(config: &Config, name: &str) -> Result<PathBuf> {
    let dir = config.dir.join(name);
    fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    Ok(dir)
}

/// Makes a random secret of 256 bits in hexadecimal, readable by its owner only, unless the file exists.
pub fn ensure_secret(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut bytes = [0; 32];
    let source = Path::new("/dev/urandom");
    fs::File::open(source).and_then(|mut random| random.read_exact(&mut bytes)).map_err(Error::io("read", source))?;
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    // By rename, so that a secret is never half of one; every token depends on it.
    let part = path.with_extension("part");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&part)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(Error::io("write", &part))?;
    fs::rename(&part, path).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;
    use std::os::unix::fs::PermissionsExt;

    fn value(spec: &Spec, key: &str) -> String {
        let found = spec.env.iter().find(|(k, _)| k == key);
        found.unwrap_or_else(|| panic!("{key} is not set")).1.to_string_lossy().into_owned()
    }

    #[test]
    fn a_processor_knows_its_surroundings() {
        let dir = tempfile::tempdir().unwrap();
        let spec = processor(&config(dir.path()), 1).unwrap();
        assert_eq!(value(&spec, "KONTOR_BOOTSTRAP"), "127.0.0.1:19012");
        assert_eq!(value(&spec, "KONTOR_REGISTRY"), "http://127.0.0.1:19014/apis/ccompat/v7");
        assert_eq!(value(&spec, "KONTOR_GRPC_LISTEN"), "127.0.0.1:19011");
        assert_eq!(value(&spec, "KONTOR_HTTP_LISTEN"), "127.0.0.1:19010");
        assert_eq!(value(&spec, "KONTOR_PREFIX"), "");
        assert_eq!(value(&spec, "KONTOR_INSTANCE"), "processor-1");
        assert!(Path::new(&value(&spec, "KONTOR_TOKEN_SECRET_FILE")).exists());
        assert_eq!(spec.args, ["run"]);
    }

    #[test]
    fn processors_share_the_secret_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        // Whichever is made first.
        let (two, one) = (processor(&config, 2).unwrap(), processor(&config, 1).unwrap());
        for key in ["KONTOR_INSTANCE", "KONTOR_STATE_DIR", "KONTOR_GRPC_LISTEN", "KONTOR_HTTP_LISTEN"] {
            assert_ne!(value(&one, key), value(&two, key), "{key}");
        }
        assert!(one.name != two.name && one.log != two.log && one.health != two.health);
        assert!(one.dir != two.dir && one.dir.is_dir() && two.dir.is_dir());
        let secret = |spec: &Spec| value(spec, "KONTOR_TOKEN_SECRET_FILE");
        assert_eq!(secret(&one), secret(&two));
    }

    #[test]
    fn the_first_processor_goes_on_with_what_an_only_one_left() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("processor");
        fs::create_dir_all(old.join("state")).unwrap();
        fs::write(old.join("token-secret"), "of every account").unwrap();
        for number in [1, 2] {
            let spec = processor(&config(dir.path()), number).unwrap();
            let secret = fs::read_to_string(value(&spec, "KONTOR_TOKEN_SECRET_FILE")).unwrap();
            assert_eq!(secret, "of every account");
            assert_eq!(Path::new(&value(&spec, "KONTOR_STATE_DIR")) == old.join("state"), number == 1);
        }
    }

    #[test]
    fn each_gateway_has_its_own_port_and_cache() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let scripts = Path::new("/c/scripts");
        let (one, two) = (gateway(&config, 1, None).unwrap(), gateway(&config, 2, Some(scripts)).unwrap());
        assert_eq!(value(&one, "KONTOR_LISTEN"), "127.0.0.1:19001");
        assert_eq!(value(&two, "KONTOR_LISTEN"), "127.0.0.1:19002");
        assert_ne!(value(&one, "KONTOR_CACHE_FILE"), value(&two, "KONTOR_CACHE_FILE"));
        assert_eq!(value(&two, GRAPHIQL_VARIABLE), "/c/scripts");
        assert!(one.env.iter().all(|(key, _)| key != GRAPHIQL_VARIABLE));
    }

    #[test]
    fn a_secret_is_random_private_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        ensure_secret(&a).unwrap();
        ensure_secret(&b).unwrap();
        let first = fs::read_to_string(&a).unwrap();
        assert_eq!(first.len(), 64);
        assert_ne!(first, fs::read_to_string(&b).unwrap());
        assert_eq!(fs::metadata(&a).unwrap().permissions().mode() & 0o777, 0o600);
        ensure_secret(&a).unwrap();
        assert_eq!(fs::read_to_string(&a).unwrap(), first);
    }
}
