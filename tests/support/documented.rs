//! Commands that a document tells operators to run.

use std::path::Path;
use std::process::Command;

/// Runs the commands that the document has under a mark, in a folder.
pub(crate) fn run_documented(document: &str, mark: &str, folder: &Path) {
    let (_, after) = document
        .split_once(&format!("<!-- test: {mark} -->\n```console\n"))
        .unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tresor"))
        .parent()
        .unwrap()
        .display()
        .to_string();
    for command in after.split("```").next().unwrap().lines() {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command.strip_prefix("$ ").unwrap()])
            .current_dir(folder)
            .env_clear();
        let ran = shell.env("PATH", format!("{program}:/usr/bin:/bin")).output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&said));
    }
}
