//! The scripts of GraphiQL, which the gateways serve themselves: a page on which tokens are typed loads nothing from
//! anywhere else, and works without a network.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache;
use crate::console::Console;
use crate::error::{Error, Result};
use crate::maven;

/// The version of GraphiQL; those of what it needs are in the list of packages.
pub const VERSION: &str = "2.4.7";
const POM: &str = include_str!("../graphiql/pom.xml");
const SUMS: &str = include_str!("../graphiql/SHA256SUMS");
/// What is taken out of the packages, as the Maven plugin names files.
const WANTED: &str = "**/graphiql.min.js,**/graphiql.min.css,**/umd/graphql-ws.min.js,\
    **/umd/react.production.min.js,**/umd/react-dom.production.min.js";

/// Directory of the scripts, downloaded on first use (3 MB).
///
/// # Errors
/// The download failed, or is not what was expected. A gateway does without.
pub fn fetch(console: &Console) -> Result<PathBuf> {
    let entry = cache::entry(&cache::root()?, "graphiql", VERSION, console, |part| {
        console.say(format!("downloading GraphiQL {VERSION} (3 MB)"));
        let unpacked = part.join("unpacked");
        let arguments = [
            "-DincludeScope=runtime".to_string(),
            format!("-Dmdep.unpack.includes={WANTED}"),
            format!("-DoutputDirectory={}", unpacked.display()),
        ];
        maven::run(part, "GraphiQL", Some(POM), "unpack-dependencies", &arguments)?;
        let scripts = part.join("scripts");
        flatten(&unpacked, &scripts)?;
        fs::remove_dir_all(&unpacked).map_err(Error::io("remove", &unpacked))?;
        cache::verify_sums(&scripts, SUMS)
    })?;
    Ok(entry.join("scripts"))
}

/// Moves every file below `from` into `to` itself.
fn flatten(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for name in cache::sizes(from)?.keys() {
        let path = from.join(name);
        let base = path.file_name().unwrap_or_default();
        fs::rename(&path, to.join(base)).map_err(Error::io("rename", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_lie_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("unpacked"), dir.path().join("scripts"));
        for name in ["a/1/umd/a.min.js", "b/b.min.css"] {
            fs::create_dir_all(from.join(name).parent().unwrap()).unwrap();
            fs::write(from.join(name), name).unwrap();
        }
        flatten(&from, &to).unwrap();
        let names: Vec<String> = cache::sizes(&to).unwrap().into_keys().collect();
        assert_eq!(names, ["a.min.js", "b.min.css"]);
    }

    #[test]
    fn the_packages_are_of_this_version() {
        assert!(POM.contains(&format!("<artifactId>graphiql</artifactId>\n      <version>{VERSION}</version>")));
        for name in SUMS.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name) {
            assert!(WANTED.contains(&format!("/{name}")), "{name}");
        }
    }
}
