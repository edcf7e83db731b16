//! The two forms of the text: `OpenMetrics`, and the older one of Prometheus, which more programs read.

use std::fmt::Write as _;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Form {
    /// The one that whoever asks likes better, by its `Accept` header (RFC 9110, 12.5.1); that of Prometheus if it says nothing.
    #[must_use]
    pub fn accepted_by(header: Option<&str>) -> Self {
        let (mut open_metrics, mut other) = (0.0, 0.0);
        for range in header.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let mut weight = 1.0;
            let mut is_known_version = true;
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => is_known_version = ["1.0.0", "0.0.1"].contains(&value.trim()),
                    _ => {}
                }
            }
            if !media_type.eq_ignore_ascii_case(OPEN_METRICS) {
                other = f32::max(other, weight);
            } else if is_known_version {
                open_metrics = f32::max(open_metrics, weight);
            }
        }
        if open_metrics > 0.0 && open_metrics >= other {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Turns `OpenMetrics` without its end into the older form: a counter is known by the name that its samples have, an info is a
/// gauge, and there are no units. All else is the same.
pub(super) fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), Some(words)) => help = Some(words),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (ending, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    other => ("", other),
                };
                let help = help.take().unwrap_or_default();
                writeln!(text, "# HELP {name}{ending} {help}\n# TYPE {name}{ending} {kind}")
                    .expect("writing to memory cannot fail");
            }
            (Some("#"), Some("UNIT"), ..) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_prefers_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (header, form) in [
            (Some(prometheus), Form::OpenMetrics),
            (Some("application/openmetrics-text"), Form::OpenMetrics),
            (Some("text/plain, application/openmetrics-text"), Form::OpenMetrics),
            (Some("text/plain, application/openmetrics-text;q=0.5"), Form::Prometheus),
            (Some("application/openmetrics-text; version=2.0.0"), Form::Prometheus),
            (Some("application/openmetrics-text; q=0"), Form::Prometheus),
            (Some("text/html, */*"), Form::Prometheus),
            (Some(""), Form::Prometheus),
            (None, Form::Prometheus),
        ] {
            assert_eq!(Form::accepted_by(header), form, "{header:?}");
        }
    }

    #[test]
    fn the_older_form_has_the_names_of_the_samples() {
        let open_metrics = "# HELP a_b Calls.\n# TYPE a_b counter\na_b_total 1\n# HELP c_seconds Times.\n\
                            # TYPE c_seconds histogram\n# UNIT c_seconds seconds\nc_seconds_sum 0.5\n\
                            # HELP d What runs.\n# TYPE d info\nd_info{version=\"1\"} 1\n";
        let prometheus = "# HELP a_b_total Calls.\n# TYPE a_b_total counter\na_b_total 1\n# HELP c_seconds Times.\n\
                          # TYPE c_seconds histogram\nc_seconds_sum 0.5\n\
                          # HELP d_info What runs.\n# TYPE d_info gauge\nd_info{version=\"1\"} 1\n";
        assert_eq!(to_prometheus(open_metrics), prometheus);
    }
}
