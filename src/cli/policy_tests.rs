use std::io::Write as _;

use clap::Parser as _;
use tempfile::NamedTempFile;

use super::*;
use crate::cli::Cli;

const POLICY: &str = r#"
[quota]
credentials_per_hour = 7

[[grant]]
who = "spiffe://dynarex.local/orders"
may = ["resolve"]
tenants = ["demo"]
providers = ["dat", "datt"]
reveal = "signature"

[[grant]]
who = "spiffe://dynarex.local/"
may = ["watch"]
tenants = ["*"]
providers = ["*"]
scopes = ["office/leipzig"]
calls_per_second = 3
"#;

struct Ran {
    result: Result<Exit, Failure>,
    stdout: String,
    stderr: String,
}

/// Runs a subcommand of `policy` on a file with this text, which stands for FILE in the line.
fn run(text: &str, line: &str) -> Ran {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    let line = line.replace("FILE", &path);
    let cli = Cli::try_parse_from(format!("tresor policy {line}").split_whitespace()).unwrap();
    let crate::cli::Command::Policy(command) = cli.command else {
        panic!("another command");
    };
    let (mut output, stdout, stderr) = Output::captured(cli.output);
    let result = command.run(&mut output);
    Ran {
        result,
        stdout: stdout.text().replace(&path, "FILE"),
        stderr: stderr.text().replace(&path, "FILE"),
    }
}

#[test]
fn a_policy_that_is_well_is_shown_as_a_table() {
    let ran = run(POLICY, "check FILE");
    assert_eq!(ran.result.unwrap(), Exit::Done);
    assert_eq!(ran.stderr, "");
    let lines: Vec<Vec<_>> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "LINE",
            "WHO",
            "MAY",
            "TENANTS",
            "PROVIDERS",
            "SCOPES",
            "REVEAL",
            "QUOTAS"
        ]
    );
    assert_eq!(
        lines[2],
        [
            "5",
            "spiffe://dynarex.local/orders",
            "resolve",
            "demo",
            "dat",
            "datt",
            "*",
            "signature",
            "-"
        ]
    );
    assert_eq!(
        lines[3],
        [
            "12",
            "spiffe://dynarex.local/",
            "watch",
            "*",
            "*",
            "office/leipzig",
            "none",
            "calls_per_second",
            "=",
            "3"
        ]
    );
    assert!(ran.stdout.contains("credentials_per_hour = 7"), "{}", ran.stdout);
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let wrong = POLICY
        .replace("\"watch\"", "\"wach\"")
        .replace("\"signature\"", "\"all\"");
    let failure = run(&wrong, "check FILE").result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    let report = failure.report();
    assert_eq!(report.lines().count(), 2, "{report}");
    assert!(
        report.contains(":10: grant[1].reveal: \"all\"") && report.contains(":14: grant[2].may: \"wach\""),
        "{report}"
    );
}

#[test]
fn what_is_suspicious_is_a_warning_and_in_the_json() {
    let folder = tempfile::tempdir().unwrap();
    let config = tresor::init::init(folder.path()).unwrap().configuration;
    let ran = run(
        POLICY,
        &format!("check FILE --output json --config {}", config.display()),
    );
    assert_eq!(ran.result.unwrap(), Exit::Done);
    assert_eq!(
        ran.stderr,
        "warning: FILE:5: provider \"datt\" is not in the catalogue\n"
    );
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["warnings"][0]["line"], 5);
    assert_eq!(json["grants"][1]["scopes"][0], "office/leipzig");
    assert_eq!(json["grants"][1]["quotas"], serde_json::json!({"calls_per_second": 3}));
    assert_eq!(json["default_quotas"]["credentials_per_hour"], 7);
}

#[test]
fn an_explanation_says_which_grant_allows_it_and_how_much() {
    let ran = run(
        POLICY,
        "explain --policy FILE --as spiffe://dynarex.local/orders --may resolve --tenant demo --provider dat --scope general",
    );
    assert_eq!(ran.result.unwrap(), Exit::Done);
    let said: Vec<_> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        said[..4],
        [
            "answer allowed",
            "asked for tenant demo, provider dat, general",
            "granted in line 5",
            "reveal signature"
        ]
    );
    assert!(
        said[4].contains("calls_per_second = 3") && said[4].contains("credentials_per_hour = 7"),
        "{said:?}"
    );
}

#[test]
fn an_explanation_says_what_is_lacking() {
    let explain = |line: &str| run(POLICY, &format!("explain --policy FILE --output json {line}"));
    let ran = explain("--as spiffe://dynarex.local/orders --may resolve --tenant other --provider dat");
    assert_eq!(ran.result.unwrap(), Exit::Denied);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&json["allowed"], &json["reveal"]),
        (&false.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        json["nearest"][0],
        serde_json::json!({"line": 5, "who": "spiffe://dynarex.local/orders", "lacks": ["tenants"]})
    );
    let ran = explain("--as td --may watch --tenant demo");
    assert_eq!(ran.result.unwrap(), Exit::Denied);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&json["is_known"], &json["nearest"][0]["lacks"][0]),
        (&false.into(), &"who".into())
    );
}

#[test]
fn what_names_nobody_and_nothing_is_wrong_usage() {
    for line in [
        "explain --policy p --as spiffe://dynarex.local/* --may watch",
        "explain --policy p --as td --may wach",
        "explain --policy p --as td --may watch --scope general",
        "explain --policy p --as td --may watch --tenant a --provider b --scope office",
    ] {
        let error = Cli::try_parse_from(format!("tresor policy {line}").split_whitespace()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn grants_in_one_line_are_told_apart() {
    let line = |who: &str, tenant: &str| {
        format!("{{ who = '{who}', may = ['watch'], tenants = ['{tenant}'], providers = ['*'] }}")
    };
    let text = format!(
        "grant = [{}, {}]\n",
        line("one.example", "a"),
        line("other.example", "b")
    );
    let ran = run(
        &text,
        "explain --policy FILE --output json --as other.example --may watch --tenant c",
    );
    assert_eq!(ran.result.unwrap(), Exit::Denied);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["nearest"][0]["who"], "other.example");
}

#[test]
fn an_explanation_says_what_was_asked_for_where_something_was_left_out() {
    let explain = |may: &str| {
        let grants = POLICY.replace("\"watch\"", &format!("\"{may}\""));
        let ran = run(
            &grants,
            &format!("explain --policy FILE --as spiffe://dynarex.local/x --may {may}"),
        );
        let said = ran.stdout.lines().nth(1).unwrap().to_owned();
        (ran.result.unwrap(), said)
    };
    let (exit, said) = explain("watch");
    assert!(
        exit == Exit::Denied && said.contains("the whole vault: all tenants"),
        "{said}"
    );
    // The server lets in who may read some of it.
    let (exit, said) = explain("audit.read");
    assert!(
        exit == Exit::Done && said.contains("within the grants, of any tenant"),
        "{said}"
    );
}
