//! Keeps `docs/CONFIGURATION.md` true.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const DOCUMENT: &str = include_str!("../../docs/CONFIGURATION.md");

/// The rows of the document's tables of keys: the key, and the other cells.
fn rows() -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    cells
        .map(|cells| (cells[0].trim_matches('`'), cells[1..].to_vec()))
        .collect()
}

/// Every key that is asked for when the configuration and the policy are read.
fn known_keys() -> BTreeSet<String> {
    let environment = Environment::default();
    let (_, mut keys) = reader::read_with_keys("[[provider]]", "", &environment, |root| {
        read_config(root, Path::new(""))
    });
    let (_, policy) = reader::read_with_keys("[[grant]]", "", &environment, crate::access::read_policy);
    keys.extend(policy);
    keys.iter()
        .map(|asked| format!("{}.{}", asked.table, asked.key))
        .collect()
}

#[test]
fn the_document_has_every_key_and_no_other() {
    let documented: BTreeSet<_> = rows().into_keys().map(str::to_owned).collect();
    assert_eq!(documented, known_keys());
}

#[test]
fn the_document_names_the_variable_of_every_setting() {
    for (key, cells) in rows() {
        let (section, name) = key.split_once('.').unwrap();
        let variable = format!("`{}`", environment::variable(section, name));
        let has_variable = !["provider", "grant", "quota"].contains(&section);
        assert_eq!(cells.contains(&variable.as_str()), has_variable, "{key}");
    }
}

#[test]
fn the_document_and_the_starting_configuration_show_the_same_defaults() {
    let mut shown = BTreeMap::new();
    let mut section = "";
    for line in crate::init::CONFIGURATION.lines() {
        let (setting, is_default) = line.strip_prefix('#').map_or((line, false), |setting| (setting, true));
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, value)) = setting.split_once(" = ").filter(|_| !setting.starts_with(' ')) {
            let default = if is_default {
                format!("`{value}`")
            } else {
                "required".to_owned()
            };
            shown.insert(format!("{section}.{key}"), default);
        }
    }
    let documented = rows().into_iter().filter(|(key, _)| {
        !["provider.", "grant.", "quota."]
            .iter()
            .any(|table| key.starts_with(table))
    });
    let mut documented: BTreeMap<_, _> = documented
        .map(|(key, cells)| (key.to_owned(), cells[1].to_owned()))
        .collect();
    // It depends on the machine.
    assert_eq!(documented.remove("server.workers").unwrap(), "one per core");
    assert!(shown.remove("server.workers").is_some());
    // The policy to start from names SPIFFE IDs.
    assert!(shown.remove("server.trust_domains").is_some());
    // What has no default has no line.
    documented.retain(|_, default| default != "none");
    assert_eq!(documented, shown);
}

#[test]
fn the_examples_of_the_document_are_read_without_a_change() {
    let blocks = DOCUMENT
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap());
    let (policies, configurations): (Vec<_>, Vec<_>) = blocks.partition(|block| block.contains("[[grant]]"));
    assert!(!policies.is_empty() && configurations.len() > 1);
    for block in policies {
        crate::access::Policy::parse(block, "policy.toml").unwrap();
    }
    for block in configurations {
        let text = if block.contains("[store]") {
            block.to_owned()
        } else {
            block.to_owned() + crate::init::CONFIGURATION
        };
        Config::parse(&text, "tresor.toml", []).unwrap();
    }
}
