//! The environment variables that override settings: `TRESOR_<SECTION>_<KEY>`.
//!
//! One that fits no setting is an error, because a misspelt override must not be ignored. Two kinds are not settings: the
//! operator's client has four of its own, and Kubernetes adds some for every service whose name begins with `tresor`.

use std::collections::BTreeMap;

const PREFIX: &str = "TRESOR_";
/// Of the operator's client.
const NOT_SETTINGS: [&str; 4] = ["TRESOR_SERVER", "TRESOR_CA", "TRESOR_CERT", "TRESOR_KEY"];

/// The variables that look like settings.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, Result<String, NotText>>,
}

/// The value is not UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotText;

impl Environment {
    /// The variables of this process.
    pub(crate) fn of_this_process() -> Self {
        let text = |value: std::ffi::OsString| value.into_string().map_err(|_| NotText);
        Self::new(std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), text(value))))
    }

    pub(crate) fn new(variables: impl IntoIterator<Item = (String, Result<String, NotText>)>) -> Self {
        let looks_like_a_setting = |name: &str, value: &Result<String, NotText>| {
            name.starts_with(PREFIX)
                && !NOT_SETTINGS.contains(&name)
                && !is_from_kubernetes(name, value.as_deref().unwrap_or_default())
        };
        let variables = variables.into_iter();
        Self {
            variables: variables
                .filter(|(name, value)| looks_like_a_setting(name, value))
                .collect(),
        }
    }

    pub(crate) fn get(&self, variable: &str) -> Option<Result<&str, NotText>> {
        let value = self.variables.get(variable)?;
        Some(value.as_deref().map_err(|not_text| *not_text))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }
}

/// The variable that overrides a setting.
pub(crate) fn variable(section: &str, key: &str) -> String {
    format!("{PREFIX}{}_{}", section.to_ascii_uppercase(), key.to_ascii_uppercase())
}

/// Whether Kubernetes makes such a variable for a service: `TRESOR_SERVICE_HOST`, `TRESOR_SERVICE_PORT_GRPC`,
/// `TRESOR_PORT=tcp://10.0.0.7:8443`, `TRESOR_PORT_8443_TCP_ADDR` (its documentation, "Accessing the Service").
fn is_from_kubernetes(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_address)
        || name.split("_PORT_").skip(1).any(is_port_and_protocol)
}

/// `8443_TCP`, or that with `_PROTO`, `_PORT` or `_ADDR`.
fn is_port_and_protocol(text: &str) -> bool {
    let mut parts = text.split('_');
    let is_port = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
    is_port
        && parts
            .next()
            .is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Ok((*value).to_owned())));
        Environment::new(variables).names().map(str::to_owned).collect()
    }

    #[test]
    fn what_kubernetes_and_the_client_set_are_no_settings() {
        let others = [
            ("TRESOR_SERVER", "localhost:8443"),
            ("TRESOR_CA", "ca.pem"),
            ("TRESOR_CERT", "operator.pem"),
            ("TRESOR_KEY", "operator.key"),
            ("TRESOR_SERVICE_HOST", "10.0.0.7"),
            ("TRESOR_SERVICE_PORT", "8443"),
            ("TRESOR_SERVICE_PORT_GRPC", "8443"),
            ("TRESOR_PORT", "tcp://10.0.0.7:8443"),
            ("TRESOR_PORT_8443_TCP", "tcp://10.0.0.7:8443"),
            ("TRESOR_PORT_8443_TCP_PROTO", "tcp"),
            ("TRESOR_HEADLESS_PORT_8443_TCP_ADDR", "10.0.0.7"),
            ("PATH", "/bin"),
        ];
        assert_eq!(names(&others), Vec::<String>::new());
    }

    #[test]
    fn everything_else_with_the_prefix_is_taken_for_a_setting() {
        let settings = ["TRESOR_LISTEN", "TRESOR_SERVER_PORT", "TRESOR_SEVER_LISTEN"];
        let given: Vec<_> = settings.iter().map(|name| (*name, "8443")).collect();
        assert_eq!(names(&given), settings);
    }
}
