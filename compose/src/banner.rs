//! What `up` prints at the end: the addresses, and three commands that work by copy and paste.

use crate::stackfile::{Phase, StackFile};

/// The addresses of a stack and what to try with them.
pub fn banner(file: &StackFile) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<10} {value}\n"));
    for (i, gateway) in file.gateways.iter().enumerate() {
        let http = gateway.http.as_deref().unwrap_or_default();
        line(if i == 0 { "gateway" } else { "" }, &format!("{http}/graphql   (try {http}/graphiql)"));
    }
    for (i, processor) in file.processors.iter().enumerate() {
        let http = processor.http.as_deref().unwrap_or_default();
        line(if i == 0 { "processor" } else { "" }, &format!("{http}/metrics"));
    }
    line("kafka", &file.bootstrap);
    line("registry", &file.registry);
    line("logs", &file.dir.join("logs").display().to_string());
    if let Some(http) = file.gateways.first().and_then(|g| g.http.as_deref()) {
        text.push_str(&try_it(http));
    }
    text
}

/// Log in (which opens an account), deposit, transfer.
fn try_it(http: &str) -> String {
    let curl = format!("curl -s {http}/graphql -H 'content-type: application/json' -d");
    let transfer = |from: &str, token: &str, to: &str, what: &str, cents: u32| {
        format!(
            "{curl} '{{\"query\":\"mutation {{ money_transfer(uuid: \\\"'$(cat /proc/sys/kernel/random/uuid)'\\\", \
             token: \\\"{token}\\\", from: \\\"{from}\\\", to: \\\"{to}\\\", descr: \\\"{what}\\\", amount: {cents}, \
             username: \\\"jan.jansen\\\") {{ uuid success reason }} }}\"}}'; echo"
        )
    };
    let login = format!(
        "answer=$({curl} '{{\"query\":\"mutation {{ get_account(username: \\\"jan.jansen\\\", \
         password: \\\"correct horse\\\") {{ iban token reason }} }}\"}}'); echo \"$answer\"; \
         iban=$(echo \"$answer\" | sed 's/.*\"iban\":\"\\([^\"]*\\)\".*/\\1/'); \
         token=$(echo \"$answer\" | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')"
    );
    let deposit = transfer("cash", "cash", "'$iban'", "first deposit", 10_000);
    let pay = transfer("'$iban'", "'$token'", "NL66OPEN0000000000", "first transfer", 2_500);
    format!(
        "\nTry it, in one shell:\n\n# log in: an unknown name opens an account\n{login}\n\n\
         # deposit 100 euro\n{deposit}\n\n# send 25 euro to the company account\n{pay}\n"
    )
}

/// One line for each part.
pub fn status(file: &StackFile) -> String {
    let mut text = String::new();
    for (name, part) in file.parts() {
        let state = match part.process() {
            Some(process) if process.is_alive() && part.ready => format!("runs (pid {})", process.pid),
            Some(process) if process.is_alive() => format!("is not ready yet (pid {})", process.pid),
            _ => "does not run".to_string(),
        };
        let restarts = match part.restarts {
            0 => String::new(),
            n => format!(", restarted {n} times"),
        };
        text.push_str(&format!("  {name:<11} {state}{restarts}\n"));
    }
    text
}

/// `stack in DIR is ready (supervisor pid n)`.
pub fn headline(file: &StackFile) -> String {
    let phase = match file.phase {
        Phase::Starting => "is starting",
        Phase::Ready => "is up",
        Phase::Stopped => "is stopped",
    };
    let pid = file.supervisor.pid.map_or(String::new(), |pid| format!(" (supervisor pid {pid})"));
    format!("the stack in {} {phase}{pid}", file.dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stackfile::tests::sample;
    use std::path::Path;
    use std::process::Command;

    /// Runs the printed commands in a shell whose `curl` prints the JSON body that it was given.
    #[test]
    fn the_printed_commands_are_valid_shell_and_json() {
        let fake = r#"curl() { while [ "$1" != -d ]; do shift; done; echo "BODY:$2" >&2;
            case $2 in *get_account*) echo '{"data":{"get_account":{"iban":"NL09OPEN0000000009","token":"01234567890123456789","reason":null}}}';; esac; }
        "#;
        let script: String = try_it("http://127.0.0.1:8181")
            .lines()
            .filter(|l| !l.starts_with("Try it"))
            .map(|l| format!("{l}\n"))
            .collect();
        let output = Command::new("bash").arg("-c").arg(format!("{fake}\n{script}")).output().unwrap();
        assert!(output.status.success());
        let errors = String::from_utf8(output.stderr).unwrap();
        let bodies: Vec<serde_json::Value> = errors
            .lines()
            .filter_map(|l| l.strip_prefix("BODY:"))
            .map(|body| serde_json::from_str(body).unwrap())
            .collect();
        assert_eq!(bodies.len(), 3, "{errors}");
        let queries: Vec<&str> = bodies.iter().map(|b| b["query"].as_str().unwrap()).collect();
        assert!(queries[0].contains(r#"get_account(username: "jan.jansen", password: "correct horse")"#));
        assert!(queries[1].contains(r#"to: "NL09OPEN0000000009""#), "{}", queries[1]);
        assert!(queries[2].contains(r#"token: "01234567890123456789", from: "NL09OPEN0000000009""#));
        let uuid = |query: &str| query.split('"').nth(1).unwrap().to_string();
        assert_eq!(uuid(queries[1]).len(), 36);
        assert_ne!(uuid(queries[1]), uuid(queries[2]));
    }

    #[test]
    fn each_instance_has_its_line_and_says_whether_it_is_ready() {
        let mut file = sample(Path::new("/s"));
        let me = crate::process::Process::current().unwrap();
        for (part, ready) in file.processors.iter_mut().zip([true, false]) {
            (part.pid, part.started_ticks, part.ready) = (Some(me.pid), Some(me.started_ticks), ready);
        }
        let text = status(&file);
        for line in ["processor-1 runs (pid", "processor-2 is not ready yet (pid", "gateway-1   does not run"] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn every_address_is_shown() {
        let mut file = sample(Path::new("/s"));
        file.gateways[0].http = Some("http://127.0.0.1:8181".into());
        file.gateways[1].http = Some("http://127.0.0.1:8182".into());
        file.processors[0].http = Some("http://127.0.0.1:8190".into());
        file.processors[1].http = Some("http://127.0.0.1:8196".into());
        let text = banner(&file);
        for address in [
            "8181/graphql",
            "8182/graphql",
            "8190/metrics",
            "8196/metrics",
            "127.0.0.1:8192",
            "8194/apis/ccompat/v7",
            "/s/logs",
        ] {
            assert!(text.contains(address), "{address} in {text}");
        }
    }
}
