//! Who we are and whom we trust: three files, named one by one or by the directory that `tresor dev` made them in.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use zeroize::Zeroizing;

use super::failure::Failure;

/// Where `tresor dev` keeps its certificates when it is not told otherwise.
const DEFAULT_DEV_DIR: &str = "tresor-dev";

/// The options that name the files.
#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// The certificates (PEM) of the CA that the server's certificate comes from.
    #[arg(long, global = true, env = "TRESOR_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate (PEM), with its chain.
    #[arg(
        long,
        global = true,
        env = "TRESOR_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    cert: Option<PathBuf>,
    /// Your certificate's private key (PEM).
    #[arg(long, global = true, env = "TRESOR_KEY", hide_env_values = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Use the operator's identity that `tresor dev` made in this directory, in place of --ca, --cert and --key. Without any
    /// of them, ./tresor-dev is used if it is there.
    #[arg(long, global = true, value_name = "DIR")]
    dev_dir: Option<PathBuf>,
}

/// The three files that mutual TLS needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// Whom we trust.
    pub(crate) ca: PathBuf,
    /// Who we are.
    pub(crate) cert: PathBuf,
    /// The proof of it.
    pub(crate) key: PathBuf,
    /// Whether a directory named all three.
    is_dev: bool,
}

impl IdentityArgs {
    /// The files that are meant.
    pub(crate) fn files(&self) -> Result<Files, Failure> {
        if let Some(directory) = &self.dev_dir {
            return Ok(Files::of_dev(directory));
        }
        match (&self.ca, &self.cert, &self.key) {
            (Some(ca), Some(cert), Some(key)) => Ok(Files {
                ca: ca.clone(),
                cert: cert.clone(),
                key: key.clone(),
                is_dev: false,
            }),
            (None, None, None) => {
                let files = Files::of_dev(Path::new(DEFAULT_DEV_DIR));
                if files.cert.exists() {
                    Ok(files)
                } else {
                    Err(nothing_named())
                }
            }
            (ca, cert, key) => Err(incomplete(&[("--ca", ca), ("--cert", cert), ("--key", key)])),
        }
    }
}

fn nothing_named() -> Failure {
    Failure::Usage(
        "the server wants to know who calls: give --ca, --cert and --key (or TRESOR_CA, TRESOR_CERT and TRESOR_KEY), or \
         --dev-dir with the data directory of `tresor dev`"
            .to_owned(),
    )
}

fn incomplete(options: &[(&str, &Option<PathBuf>)]) -> Failure {
    let missing = options.iter().filter(|(_, file)| file.is_none()).map(|(name, _)| *name);
    Failure::Usage(format!(
        "--ca, --cert and --key (or their environment variables) belong together; missing: {}",
        missing.collect::<Vec<_>>().join(", ")
    ))
}

impl Files {
    fn of_dev(directory: &Path) -> Self {
        let pki = directory.join("pki");
        Self {
            ca: pki.join("ca.pem"),
            cert: pki.join("operator.pem"),
            key: pki.join("operator.key"),
            is_dev: true,
        }
    }

    /// Reads them for the connection.
    pub(crate) fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let option = |own| if self.is_dev { "--dev-dir" } else { own };
        let ca = pem(option("--ca"), &self.ca, "CERTIFICATE-----")?;
        let cert = pem(option("--cert"), &self.cert, "CERTIFICATE-----")?;
        let key = Zeroizing::new(pem(option("--key"), &self.key, "PRIVATE KEY-----")?);
        Ok(ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .identity(Identity::from_pem(cert, &*key)))
    }
}

fn pem(option: &'static str, path: &Path, marker: &str) -> Result<Vec<u8>, Failure> {
    let bytes = fs::read(path).map_err(|source| Failure::File {
        option,
        path: path.to_owned(),
        source,
    })?;
    if bytes.windows(marker.len()).any(|window| window == marker.as_bytes()) {
        return Ok(bytes);
    }
    let kind = marker.trim_end_matches('-').to_lowercase();
    Err(Failure::Usage(format!(
        "{option} {}: holds no {kind} in PEM form",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        identity: IdentityArgs,
    }

    fn files(arguments: &[&str]) -> Result<Files, Failure> {
        let probe = Probe::try_parse_from(std::iter::once(&"probe").chain(arguments));
        probe.ok().unwrap().identity.files()
    }

    #[test]
    fn the_three_files_belong_together() {
        let failure = files(&["--ca", "ca.pem", "--key", "me.key"]).unwrap_err();
        assert!(failure.to_string().ends_with("missing: --cert"), "{failure}");
    }

    #[test]
    fn a_dev_directory_has_its_own_identity() {
        let files = files(&["--dev-dir", "/tmp/vault", "--ca", "other.pem"]).unwrap();
        assert_eq!(files.cert, Path::new("/tmp/vault/pki/operator.pem"));
        assert_eq!(files.ca, Path::new("/tmp/vault/pki/ca.pem"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_option() {
        for (arguments, expected) in [
            (&["--dev-dir", "/nowhere"][..], "--dev-dir /nowhere/pki/ca.pem: "),
            (&["--ca", "/no.pem", "--cert", "c", "--key", "k"], "--ca /no.pem: "),
        ] {
            let failure = files(arguments).unwrap().tls().err().unwrap();
            assert!(failure.to_string().starts_with(expected), "{failure}");
        }
    }

    #[test]
    fn a_file_without_pem_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = pem("--ca", file.path(), "CERTIFICATE-----").unwrap_err();
        let text = failure.to_string();
        assert!(text.ends_with("holds no certificate in PEM form"), "{text}");
    }
}
