//! What the program says to wrong usage. Nothing here reaches a broker.

use std::process::{Command, Stdio};

use kontor_compose::TestStack;

/// Exit code of the program with these arguments and this `KONTOR_LOG`, and what it told beside its output.
fn told(args: &[&str], log: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(TestStack::shared().unwrap().bin.join("processor"));
    command.args(args).stdin(Stdio::null()).env_remove("KONTOR_LOG").envs(log.map(|log| ("KONTOR_LOG", log)));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// 2 is what an audit says that could not decide, and a replay that found no letter.
#[test]
fn wrong_arguments_end_with_a_code_of_their_own() {
    for args in [
        vec![],
        vec!["audti"],
        vec!["audit", "--wait", "1"],
        vec!["audit", "--wait-s", "soon"],
        vec!["audit", "--store", "somewhere"],
        vec!["dead-letters", "replay", "--offset", "1"],
        vec!["run", "--standbys", "11"],
    ] {
        let (code, told) = told(&args, None);
        assert_eq!(code, Some(64), "{args:?}: {told}");
        assert!(!told.is_empty(), "{args:?}");
    }
    for args in [["--help"], ["--version"]] {
        assert_eq!(told(&args, None).0, Some(0), "{args:?}");
    }
}

#[test]
fn a_wrong_filter_of_the_log_is_refused_in_one_line() {
    for args in [vec!["config"], vec!["run", "--token-secret-file", "nowhere"]] {
        let (code, told) = told(&args, Some("info,processor=loud"));
        assert_eq!(code, Some(64), "{told}");
        assert!(told.starts_with("processor: KONTOR_LOG `info,processor=loud`: "), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    assert_eq!(told(&["config"], Some("info,processor=debug")).0, Some(0));
}
