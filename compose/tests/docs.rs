//! The command blocks of the documents, run as they stand there: what a reader types works.
//!
//! Only places are put in (a directory of the test, free ports), what would stay in the foreground is detached, and
//! tests are compiled instead of run: this is one of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Ends a stack whatever happens to the test.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn stack(&self) -> PathBuf {
        self.dir.path().join("stack")
    }

    /// Runs a script in the clone as one shell; its output, if all of it succeeded.
    fn run(script: &str) -> String {
        let script = format!("set -euo pipefail\n{script}\n");
        let output = Command::new("bash").arg("-c").arg(&script).current_dir(clone()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{script}\n{said}");
        said
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in ["stack", "suite"] {
            let stack = self.dir.path().join(name);
            let down = Command::new(env!("CARGO_BIN_EXE_stack")).arg("down").arg("--dir").arg(stack).output();
            assert!(down.is_ok());
        }
    }
}

fn clone() -> PathBuf {
    Path::new("..").canonicalize().unwrap()
}

/// The lines of all `sh` blocks of a document, without comments.
fn commands(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(clone().join(document)).unwrap();
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                found.push(line.split(" #").next().unwrap_or(line).trim().to_owned());
            }
            _ => {}
        }
    }
    assert!(!inside, "a block of {document} does not end");
    found
}

#[test]
fn no_document_has_blocks_that_are_not_run_here() {
    let mut documents = Vec::new();
    for dir in [clone(), clone().join("docs")] {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(files.filter(|file| file.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(documents.len() >= 5, "{documents:?}");
    for document in documents {
        let name = document.file_name().unwrap().to_str().unwrap();
        let has_blocks = std::fs::read_to_string(&document).unwrap().contains("```sh");
        assert_eq!(has_blocks, ["README.md", "HACKING.md"].contains(&name), "{name}");
    }
}

#[test]
fn the_readme_leads_from_a_clone_to_a_transfer() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    assert_eq!(commands("README.md"), ["compose/up", "compose/down", "compose/test"]);
    let dir = place.stack();
    let said = Place::run(&format!("compose/up --dir {} --port-base 0 --detach", dir.display()));
    let printed = said.split("Try it, in one shell:").nth(1).unwrap().split("stop it with").next().unwrap();
    let try_it = || {
        let answers = Place::run(printed);
        assert!(answers.contains(r#""iban":"NL"#), "{answers}");
        assert_eq!(answers.matches(r#""success":true"#).count(), 2, "{answers}");
    };
    try_it();
    // The commands within the text: with another number of processors the same commands work.
    let text = std::fs::read_to_string(clone().join("README.md")).unwrap();
    assert!(text.contains("`compose/scale 2`"));
    let scaled = Place::run(&format!("compose/scale 2 --dir {}", dir.display()));
    assert!(scaled.contains("processor-2 is ready") && scaled.contains("has 2 processors"), "{scaled}");
    try_it();

    let audit = format!("{}/bin/processor audit --help && {}/bin/load --help", dir.display(), dir.display());
    Place::run(&audit);
    let down = Place::run(&format!("compose/down --dir {}", dir.display()));
    assert!(down.contains("is stopped"), "{down}");
    Place::run("bash -n compose/test && test -x compose/test");
}

#[test]
fn the_commands_of_daily_work_run() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    let dir = place.dir.path().display();
    let commands = commands("HACKING.md");
    let adapted = commands.iter().filter(|command| !command.starts_with("compose/test")).map(|command| {
        assert!(["compose/", "/tmp/kontor-bin/", "export ", "KONTOR_"].iter().any(|start| command.starts_with(start)));
        let command = command.replace("/tmp/", &format!("{dir}/")).replace("kontor-suite", "suite");
        command.replacen("cargo test", "cargo test --no-run", 1)
    });
    let script: Vec<String> = adapted.collect();
    assert!(script.len() >= 8, "{script:?}");
    Place::run(&script.join("\n"));
}
