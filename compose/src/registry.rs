//! The schema registry (Apicurio, which speaks Confluent's API), with its schemas and their ids in a database file of
//! its own, so that both outlive a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache;
use crate::config::Config;
use crate::console::Console;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::maven;
use crate::spec::Spec;

/// The version of the archive.
pub const VERSION: &str = "3.3.3";
const SUMS: &str = include_str!("../registry/SHA256SUMS");

/// Directory of the unpacked registry, downloaded on first use (151 MB).
pub fn fetch(console: &Console) -> Result<PathBuf> {
    cache::entry(&cache::root()?, "registry", VERSION, console, |part| {
        console.say(format!("downloading the schema registry, Apicurio {VERSION} (151 MB)"));
        let archive = part.join("archive");
        let arguments = [
            format!("-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"),
            format!("-DoutputDirectory={}", archive.display()),
        ];
        maven::run(part, "the schema registry", None, "copy", &arguments)?;
        cache::verify_sums(&archive, SUMS)?;
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(archive.join(format!("apicurio-registry-app-{VERSION}-all.tar.gz")));
        tar.arg("-C").arg(part).arg("--no-same-owner");
        cache::run_tool(&mut tar, "the schema registry", "install tar and gzip")?;
        fs::remove_dir_all(&archive).map_err(Error::io("remove", &archive))
    })
}

/// The child; its directory is made.
pub fn spec(config: &Config, java: &Path, home: &Path) -> Result<Spec> {
    let dir = config.dir.join("registry");
    fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    Ok(Spec {
        name: "registry".into(),
        program: java.to_path_buf(),
        args: ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError", "-jar"]
            .into_iter()
            .map(Into::into)
            .chain([home.join("quarkus-run.jar").into()])
            .collect(),
        env: environment(config, &dir),
        log: config.log("registry"),
        own_log: None,
        health: Health::Http(format!("{}/subjects", config.registry())),
        ready_within: Duration::from_secs(60),
        patience: Duration::from_secs(10),
        stop_rank: Spec::stop_rank_of("registry"),
        dir,
    })
}

fn environment(config: &Config, dir: &Path) -> Vec<(String, std::ffi::OsString)> {
    let database = format!("jdbc:h2:file:{}/registry;DB_CLOSE_ON_EXIT=FALSE", dir.display());
    [
        ("QUARKUS_HTTP_HOST", "127.0.0.1".to_string()),
        ("QUARKUS_HTTP_PORT", config.ports.registry().to_string()),
        // Otherwise on every address, port 9000.
        ("QUARKUS_MANAGEMENT_HOST", "127.0.0.1".to_string()),
        ("QUARKUS_MANAGEMENT_PORT", config.ports.registry_management().to_string()),
        ("APICURIO_DATASOURCE_URL", database),
        // One line per request would fill the disk.
        ("QUARKUS_LOG_LEVEL", "WARN".to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value.into()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn it_listens_on_loopback_and_keeps_its_ids_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let spec = spec(&config, Path::new("/j/java"), Path::new("/r")).unwrap();
        let value = |key: &str| {
            let found = spec.env.iter().find(|(k, _)| k == key);
            found.unwrap().1.to_string_lossy().into_owned()
        };
        for host in ["QUARKUS_HTTP_HOST", "QUARKUS_MANAGEMENT_HOST"] {
            assert_eq!(value(host), "127.0.0.1");
        }
        let file = format!("jdbc:h2:file:{}/registry/registry;", dir.path().display());
        assert!(value("APICURIO_DATASOURCE_URL").starts_with(&file));
        assert_eq!(spec.health, Health::Http("http://127.0.0.1:19014/apis/ccompat/v7/subjects".into()));
    }

    #[test]
    fn the_list_of_sums_names_this_version() {
        assert!(SUMS.contains(&format!("-{VERSION}-all.tar.gz")));
    }
}
