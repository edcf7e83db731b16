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

/// The rooms that a source names in paths from the crate's root, but for its tests.
fn rooms_in(source: &str) -> BTreeSet<&str> {
    // A module of tests that is not in a file of its own stands at the end.
    let shipped = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| ["crate::", "tresor::"].map(|root| line.split(root).skip(1)));
    let end = |rest: &str| {
        rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .unwrap_or(rest.len())
    };
    paths.flatten().map(|rest| &rest[..end(rest)]).collect()
}

#[test]
fn each_room_uses_just_the_rooms_that_the_architecture_says() {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/ARCHITECTURE.md")).unwrap();
    let folder = Path::new(ROOT).join("src");
    let sources = sources();
    let shipped = sources.iter().filter_map(|(path, text)| {
        let path = path.strip_prefix(&folder).ok()?;
        let is_test = path.iter().any(|part| {
            let name = part.to_str().unwrap().trim_end_matches(".rs");
            name == "tests" || name.ends_with("_tests")
        });
        let is_tried = path.ends_with("fuzzing.rs") || path.ends_with("bench.rs");
        (!is_test && !is_tried).then(|| (room_of(path), rooms_in(text)))
    });
    let mut used = BTreeMap::<String, BTreeSet<&str>>::new();
    for (room, rooms) in shipped {
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
