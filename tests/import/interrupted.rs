//! Imports that are broken off, and go on.

use super::*;

/// How many lines an interrupted import notes as acknowledged, once it notes any.
fn acknowledged(state: &Path) -> usize {
    wait_for("acknowledged lines", || {
        let noted: Value = serde_json::from_slice(&fs::read(state).ok()?).ok()?;
        usize::try_from(noted["lines"].as_u64()?)
            .ok()
            .filter(|lines| *lines > 0)
    })
}

fn begin(server: &Server, file: &Path) -> Child {
    let mut command = import(server, file, &["--resume"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Goes on with the import, and insists that everything is there once.
async fn ends_well(server: &Server, file: &Path, before: usize) {
    ends_with_refused(server, file, before, 0).await;
}

async fn ends_with_refused(server: &Server, file: &Path, before: usize, refused: usize) {
    let (code, answer, messages) = run(&mut import(server, file, &["--resume"]));
    let expected = if refused == 0 { 0 } else { 3 };
    assert_eq!((code, &answer["failed"]), (expected, &refused.into()), "{messages}");
    let [saved, unchanged, _] = counts(&answer).map(Option::unwrap);
    assert_eq!(usize::try_from(saved + unchanged).unwrap(), MANY);
    assert!(usize::try_from(saved).unwrap() >= before);
    let stored = stored(&server.operator(), "firm").await;
    assert_eq!(stored.len(), MANY);
    assert!(stored.values().all(|version| *version == 1), "nothing was saved twice");
    assert!(!state_of(file).exists());
}

fn state_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.import-state", file.display()))
}

#[tokio::test]
async fn an_import_whose_server_is_killed_loses_nothing_acknowledged_and_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let file = write(&directory, "logins.jsonl", &many("firm", MANY));
    let child = begin(&server, &file);
    acknowledged(&state_of(&file));
    server.kill();
    let interrupted = child.wait_with_output().unwrap();
    let messages = String::from_utf8(interrupted.stderr).unwrap();
    assert_eq!(interrupted.status.code(), Some(7), "{messages}");
    assert!(messages.contains("--resume"), "{messages}");
    let noted = acknowledged(&state_of(&file));
    assert!(noted < MANY);
    assert_eq!(
        fs::metadata(state_of(&file)).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let server = Server::dev(directory.path());
    let stored = stored(&server.operator(), "firm").await;
    for number in 0..noted {
        assert!(
            stored.contains_key(&format!("firm/dat/office/o{number:06}")),
            "{number} of {noted}"
        );
    }
    ends_well(&server, &file, noted).await;
    server.stop().await;
}

#[tokio::test]
async fn an_import_that_is_killed_is_resumed_unless_its_file_has_changed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let text = many("firm", MANY);
    let file = write(&directory, "logins.jsonl", &text);
    let mut child = begin(&server, &file);
    acknowledged(&state_of(&file));
    child.kill().unwrap();
    child.wait().unwrap();
    let noted = acknowledged(&state_of(&file));

    write(
        &directory,
        "logins.jsonl",
        &text.replacen("password-0", "another-00", 1),
    );
    let (code, _, messages) = run(&mut import(&server, &file, &["--resume"]));
    assert!(
        code == 2 && messages.contains("is not about this file as it is now"),
        "{messages}"
    );
    write(&directory, "logins.jsonl", &text);
    ends_well(&server, &file, noted).await;
    server.stop().await;
}

#[tokio::test]
async fn an_import_of_a_table_as_spreadsheets_write_it_is_resumed_at_the_right_row() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let mut table = "\u{feff}path;customer_number;username;password\r\n".to_owned();
    let mut refused = 0;
    for number in 0..MANY {
        writeln!(
            table,
            "firm/dat/office/o{number:06};1234567;myuser;\"a \"\"password\"\"\"\r"
        )
        .unwrap();
        if number % 3 == 0 {
            refused += 1;
            writeln!(
                table,
                "firm/dat/office/x{number:06};1234567;myuser;\"of two\r\nlines\"\r"
            )
            .unwrap();
        }
    }
    let file = write(&directory, "logins.csv", &table);
    let mut child = begin(&server, &file);
    acknowledged(&state_of(&file));
    child.kill().unwrap();
    child.wait().unwrap();
    let state: Value = serde_json::from_slice(&fs::read(state_of(&file)).unwrap()).unwrap();
    let offset = usize::try_from(state["offset"].as_u64().unwrap()).unwrap();
    let rest = &table[offset..];
    assert!(
        rest.trim_start_matches('\n').starts_with("firm/dat/office/"),
        "{:?}",
        &rest[..40]
    );
    let before = table[..offset].matches("firm/dat/office/o").count();
    ends_with_refused(&server, &file, before, refused).await;
    server.stop().await;
}
