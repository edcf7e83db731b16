//! Configurations and catalogues that somebody wrote.

use super::Config;
use crate::fuzzing::Input;
use crate::vault::catalogue::Catalogue;

/// A configuration, an environment after it, or changes to the catalogue: it is read, or each mistake names its file.
pub(crate) fn configuration(data: &[u8]) {
    let mut input = Input(data);
    let variables = usize::from(input.byte() % 4);
    let environment: Vec<_> = (0..variables)
        .map(|_| (format!("TRESOR_{}", input.text()), input.text()))
        .collect();
    let text = String::from_utf8_lossy(input.0);
    if let Err(errors) = Config::parse(&text, "tresor.toml", environment) {
        assert!(errors.len() > 0 && errors.to_string().contains(&['t', 'T'][..]));
    }
    if let Err(errors) = Catalogue::built_in().with_changes(&text, "catalogue.toml") {
        assert!(errors.to_string().contains("catalogue.toml"));
    }
}
