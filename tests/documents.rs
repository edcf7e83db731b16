//! What the documents say about the source is there.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every Rust and Python source of the project.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, sources: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, sources);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "rs" || extension == "py")
            {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    let build = Path::new(ROOT).join("build.rs");
    let text = fs::read_to_string(&build).unwrap();
    let mut sources = vec![(build, text)];
    for folder in ["src", "tests", "benches"] {
        collect(&Path::new(ROOT).join(folder), &mut sources);
    }
    sources
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of all tables whose last column is headed so, as their cells.
fn rows<'a>(document: &'a str, last_column: &str) -> Vec<Vec<&'a str>> {
    let mut rows = Vec::new();
    let mut is_inside = false;
    for line in document.lines() {
        let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            is_inside = false;
            continue;
        };
        let cells: Vec<_> = cells.split('|').map(str::trim).collect();
        if cells.last() == Some(&last_column) {
            is_inside = true;
        } else if is_inside && !cells[0].starts_with("---") {
            rows.push(cells);
        }
    }
    rows
}

fn is_name(text: &str) -> bool {
    text.contains('_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn every_test_that_the_security_document_names_is_there() {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/SECURITY.md")).unwrap();
    let rows = rows(&document, "shown by");
    assert!(
        rows.len() >= 30,
        "the tables are not found any more: {} rows",
        rows.len()
    );
    let sources = sources();
    let is_function = |name: &str| {
        let definitions = [format!("fn {name}("), format!("def {name}(")];
        sources
            .iter()
            .any(|(_, text)| definitions.iter().any(|definition| text.contains(definition)))
    };
    let is_file = |name: &str| sources.iter().any(|(path, _)| path.ends_with(name));
    let mut missing = Vec::new();
    for row in &rows {
        let (first, shown_by) = (row[0], row[row.len() - 1]);
        for name in quoted(shown_by) {
            let is_there = match name.rsplit_once('.') {
                Some((_, "py" | "rs")) => is_file(name),
                _ => !is_name(name) || is_function(name),
            };
            if !is_there {
                missing.push(format!("{name} ({first})"));
            }
        }
        for name in row[1..row.len() - 1].iter().flat_map(|cell| quoted(cell)) {
            if matches!(name.rsplit_once('.'), Some((_, "rs"))) && !is_file(name) {
                missing.push(format!("{name} ({first})"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "named in docs/SECURITY.md and not there: {missing:#?}"
    );
}

/// Which room a file of `src` is in: the first part of its path.
fn room_of(path: &Path) -> String {
    let first = path.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The sources of `src` that are shipped, without their comments and tests: each with its path.
fn shipped() -> Vec<(PathBuf, String)> {
    let folder = Path::new(ROOT).join("src");
    let sources = sources();
    let mut only_for_tests = BTreeSet::from(["bench", "fuzzing"]);
    for (_, text) in &sources {
        let declared = text
            .split("#[cfg(test)]\n")
            .skip(1)
            .filter_map(|rest| rest.lines().next());
        let modules = declared.filter_map(|line| line.strip_suffix(';')?.rsplit_once("mod "));
        only_for_tests.extend(modules.map(|(_, name)| name));
    }
    let shipped = sources.iter().filter_map(|(path, text)| {
        let path = path.strip_prefix(&folder).ok()?;
        let is_test = path.iter().any(|part| {
            let name = part.to_str().unwrap().trim_end_matches(".rs");
            only_for_tests.contains(name) || name.ends_with("_tests")
        });
        // Modules of tests that are not in files of their own stand at the end.
        let is_module = |at: &usize| {
            text[*at..]
                .lines()
                .nth(1)
                .is_some_and(|line| line.ends_with('{') && line.contains("mod "))
        };
        let end = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(is_module);
        let end = end.unwrap_or(text.len());
        let code = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
        (!is_test).then(|| (path.to_owned(), code.collect::<Vec<_>>().join("\n")))
    });
    shipped.collect()
}

/// The rooms that code names in paths from the crate's root.
fn rooms_in(code: &str) -> BTreeSet<&str> {
    let paths = ["crate::", "tresor::"]
        .into_iter()
        .flat_map(|root| code.split(root).skip(1));
    let end = |rest: &str| {
        rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .unwrap_or(rest.len())
    };
    paths.map(|rest| &rest[..end(rest)]).collect()
}

/// Nothing in a running vault may panic without a proof beside it that it cannot.
#[test]
fn what_is_shipped_expects_only_what_it_proves() {
    let mut expected = 0;
    for (path, code) in shipped() {
        assert!(!code.contains(".unwrap()"), "{} unwraps", path.display());
        for rest in code.split(".expect(").skip(1) {
            let proof = rest.split(')').next().unwrap().trim();
            // A sentence, or a constant that holds one.
            let is_sentence = proof.starts_with('"') && proof.split_whitespace().count() > 2;
            let is_constant = proof.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
            assert!(is_sentence || is_constant, "{}: {proof:?} is no reason", path.display());
            expected += 1;
        }
    }
    assert!(expected > 0, "nothing was looked at");
}

#[test]
fn each_room_uses_just_the_rooms_that_the_architecture_says() {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/ARCHITECTURE.md")).unwrap();
    let sources = shipped();
    let mut used = BTreeMap::<String, BTreeSet<&str>>::new();
    for (path, code) in &sources {
        let (room, rooms) = (room_of(path), rooms_in(code));
        assert!(
            !rooms.contains(""),
            "{room}: a path for each room, so that they are seen here"
        );
        used.entry(room).or_default().extend(rooms);
    }
    let rooms: BTreeSet<_> = used.keys().cloned().collect();
    let rows = rows(&document, "uses");
    let named = |cell| {
        quoted(cell)
            .filter_map(|place| place.strip_prefix("src/"))
            .collect::<Vec<_>>()
    };
    let base = rows
        .iter()
        .map(|row| named(row[0]))
        .find(|places| places.contains(&"time.rs"))
        .unwrap();
    let base: BTreeSet<_> = base.iter().map(|place| room_of(Path::new(place))).collect();
    let mut told = BTreeSet::new();
    for row in &rows {
        let places: BTreeSet<_> = named(row[0]).iter().map(|place| room_of(Path::new(place))).collect();
        told.extend(places.iter().cloned());
        let found: BTreeSet<_> = places
            .iter()
            .filter_map(|place| used.get(place))
            .flatten()
            .copied()
            .collect();
        let found = found
            .into_iter()
            .filter(|room| rooms.contains(*room) && !places.contains(*room));
        let found: BTreeSet<_> = found.filter(|room| !base.contains(*room)).collect();
        match row[2] {
            "everything" | "each its own room" => {}
            "everything but `cli`" => assert!(!found.contains("cli"), "{places:?}"),
            listed => {
                let allowed: BTreeSet<_> = quoted(listed).filter(|word| rooms.contains(*word)).collect();
                assert_eq!(found, allowed, "what {places:?} use, and what the table says");
            }
        }
    }
    let untold: Vec<_> = rooms
        .iter()
        .filter(|room| !told.contains(*room) && *room != "lib")
        .collect();
    assert!(untold.is_empty(), "no row is about {untold:?}");
}

#[test]
fn each_direct_dependency_has_its_reason() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let tables = [
        manifest.get("dependencies"),
        manifest.get("dev-dependencies"),
        manifest.get("build-dependencies"),
        manifest["target"]["cfg(target_os = \"linux\")"].get("dependencies"),
    ];
    let named: BTreeSet<_> = tables
        .iter()
        .flat_map(|table| table.unwrap().as_table().unwrap().keys())
        .collect();
    let document = fs::read_to_string(Path::new(ROOT).join("docs/DEPENDENCIES.md")).unwrap();
    let cells = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let told: BTreeSet<_> = cells
        .flat_map(|cell| cell.split('`').step_by(2))
        .map(str::to_owned)
        .collect();
    let untold: Vec<_> = named.iter().filter(|name| !told.contains(**name)).collect();
    assert!(untold.is_empty(), "docs/DEPENDENCIES.md does not tell of {untold:?}");
    let gone: Vec<_> = told
        .iter()
        .filter(|name| !named.contains(name) && !name.trim().is_empty())
        .collect();
    assert!(
        gone.is_empty(),
        "docs/DEPENDENCIES.md tells of {gone:?}, which Cargo.toml does not name"
    );
}

/// As `tests/fuzz/Cargo.toml` says: otherwise all dependencies are built a second time for it.
#[test]
fn the_fuzz_targets_share_what_is_built_for_the_tests() {
    let read = |name: &str| -> toml::Table {
        let text = fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
        text.parse().unwrap()
    };
    let of_dependencies = |manifest: &toml::Table| manifest["profile"]["dev"]["package"]["*"].clone();
    let ours = of_dependencies(&read("Cargo.toml"));
    assert_eq!(of_dependencies(&read("tests/fuzz/Cargo.toml")), ours);

    let locked = |lock: toml::Table| -> BTreeSet<(String, String)> {
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        let packages = lock["package"].as_array().unwrap().iter();
        packages
            .map(|package| (text(&package["name"]), text(&package["version"])))
            .collect()
    };
    let mut others = locked(read("tests/fuzz/Cargo.lock"));
    others.retain(|(name, _)| !["tresor-fuzz", "libfuzzer-sys", "arbitrary"].contains(&name.as_str()));
    let ours = locked(read("Cargo.lock"));
    let apart: Vec<_> = others.difference(&ours).collect();
    assert!(apart.is_empty(), "tests/fuzz/Cargo.lock has other versions: {apart:?}");
}
