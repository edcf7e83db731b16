//! The way from what is configured to the keys.

use std::sync::Arc;

use super::{KekConfig, KeysConfig};
use crate::keyring::{KekError, KekSource, KeyFile, KmsPlugin, Replacing};

/// The key-encryption key that a configuration names.
pub struct Kek {
    /// What wraps and unwraps.
    pub source: Arc<dyn KekSource>,
    /// The plugin behind it, if it is one: somebody has to [follow](KmsPlugin::follow) it.
    pub plugin: Option<Arc<KmsPlugin>>,
}

impl Kek {
    /// Reads the key files. A plugin is not talked to yet.
    ///
    /// # Errors
    /// [`KekError`] if a file is not there or no key for its owner alone.
    pub fn new(config: &KeysConfig) -> Result<Self, KekError> {
        let (source, plugin): (Arc<dyn KekSource>, _) = match &config.kek {
            KekConfig::File(path) => (Arc::new(KeyFile::read(path)?), None),
            KekConfig::Kms(socket) => {
                let plugin = Arc::new(KmsPlugin::new(socket)?);
                (Arc::clone(&plugin) as Arc<dyn KekSource>, Some(plugin))
            }
        };
        let source = match &config.previous_kek_file {
            Some(path) => Arc::new(Replacing::new(source, KeyFile::read(path)?)),
            None => source,
        };
        Ok(Self { source, plugin })
    }
}
