//! What is said of a backup: that it is good, that it is not, or that this cannot be told here and now.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_backup_of_this_vault_is_told_with_code_9() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    for one in ["a", "b"] {
        fs::create_dir(folder.join(one)).unwrap();
        prepare(&folder.join(one));
        let server = Server::serve(&folder.join(one), &[]);
        save(&server.operator(), 1, "word").await;
        let request = put_login(name("firm", "dat", general()), login("another"));
        server.operator().save(request).await;
        server.stop().await;
        let mut backup = tresor(&["backup"]);
        backup
            .arg(folder.join(one).join("vault.backup"))
            .arg("--config")
            .arg(folder.join(one).join("tresor.toml"));
        done(backup);
    }
    let verify = |file: &Path, of: &str| {
        let mut command = tresor(&["backup", "verify", "--output", "json"]);
        command
            .arg(file)
            .arg("--config")
            .arg(folder.join(of).join("tresor.toml"));
        command.output().unwrap()
    };
    let own = folder.join("a/vault.backup");
    let whole = verify(&own, "a");
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));
    let answer: serde_json::Value = serde_json::from_slice(&whole.stdout).unwrap();
    // Two heads, two versions, a data key and a signing key.
    assert_eq!(
        (&answer["opened"], &answer["damaged"]),
        (&6.into(), &serde_json::json!([]))
    );
    let foreign = verify(&own, "b");
    assert_eq!(foreign.status.code(), Some(9), "{}", said(&foreign));
    assert!(said(&foreign).contains("keys.previous_kek_file"), "{}", said(&foreign));
    let bytes = fs::read(&own).unwrap();
    let damaged = folder.join("damaged");
    for (content, expected) in [
        (&bytes[..bytes.len() - 10], "cut short"),
        (&b"something else"[..], "no backup"),
        (&[&bytes[..], b"x"].concat()[..], "follows on its end"),
    ] {
        fs::write(&damaged, content).unwrap();
        let refused = verify(&damaged, "a");
        assert_eq!(refused.status.code(), Some(9));
        assert!(said(&refused).contains(expected), "{}", said(&refused));
    }
    // Nothing is overwritten, and nothing is left of what fails.
    let mut backup = tresor(&["backup"]);
    let refused = backup
        .arg(&own)
        .arg("--config")
        .arg(folder.join("a/tresor.toml"))
        .output()
        .unwrap();
    assert_eq!((refused.status.code(), fs::read(&own).unwrap()), (Some(2), bytes));
    assert!(!folder.join("a/vault.backup.part").exists());
}

/// Whether it is good is another question than whether that can be told here and now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_cannot_be_verified_here_and_now_is_not_condemned() {
    use age::secrecy::ExposeSecret as _;

    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let server = Server::serve(folder, &[]);
    save(&server.operator(), 1, "word").await;
    server.stop().await;
    let config = folder.join("tresor.toml");
    let identities = [age::x25519::Identity::generate(), age::x25519::Identity::generate()];
    let keys = identities.each_ref().map(|identity| {
        let file = folder.join(identity.to_public().to_string());
        fs::write(&file, identity.to_string().expose_secret()).unwrap();
        file
    });
    let [plain, encrypted] = ["vault.backup", "vault.backup.age"].map(|name| folder.join(name));
    for (file, recipient) in [(&plain, None), (&encrypted, Some(&identities[0]))] {
        let mut backup = tresor(&["backup"]);
        backup.arg(file).arg("--config").arg(&config);
        if let Some(recipient) = recipient {
            backup.arg("--recipient").arg(recipient.to_public().to_string());
        }
        done(backup);
    }
    let verify = |file: &Path, identity: Option<&Path>| {
        let mut command = tresor(&["backup", "verify"]);
        command.arg(file).arg("--config").arg(&config);
        if let Some(identity) = identity {
            command.arg("--identity").arg(identity);
        }
        let output = command.output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    assert_eq!(verify(&encrypted, Some(&keys[0])).0, 0);
    for ((code, text), expected, told) in [
        (verify(&encrypted, None), 1, "--identity FILE"),
        (verify(&encrypted, Some(&keys[1])), 1, "no identity opens it"),
        (verify(&folder.join("nothing"), None), 1, "No such file"),
        (verify(folder, None), 1, "Is a directory"),
        (verify(Path::new("-"), None), 2, "give it as a file"),
    ] {
        assert!(code == expected && text.contains(told), "{told}: {code}: {text}");
        assert!(!text.contains("NOT TO BE USED"), "{text}");
    }
    // What is damaged is, whoever reads it.
    let bytes = fs::read(&encrypted).unwrap();
    fs::write(&encrypted, &bytes[..bytes.len() - 20]).unwrap();
    assert_eq!(verify(&encrypted, Some(&keys[0])).0, 9);

    // Without its key nothing of a store opens, and it is not said to be broken.
    let kek = folder.join("kek.key");
    fs::remove_file(&kek).unwrap();
    assert_eq!(verify(&plain, None).0, 1);
    tresor::init::make_kek(&kek).unwrap();
    for words in [&["check"][..], &["backup", folder.join("other").to_str().unwrap()]] {
        let mut command = tresor(words);
        let refused = command.arg("--config").arg(&config).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(
            said(&refused).contains("was wrapped by the key-encryption key"),
            "{}",
            said(&refused)
        );
    }
}
