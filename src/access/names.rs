//! The grammar of identities: SPIFFE IDs and DNS names. Anything malformed is refused, nothing is repaired.

/// The longest SPIFFE ID, in bytes (SPIFFE-ID, 2.3).
const LONGEST_SPIFFE_ID: usize = 2048;
/// The longest trust domain, in bytes (SPIFFE-ID, 2.1).
const LONGEST_TRUST_DOMAIN: usize = 255;
/// The longest DNS name and the longest of its labels, in bytes (RFC 1035, 2.3.4).
const LONGEST_DNS_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

pub(super) const SCHEME: &str = "spiffe://";

/// Checks the SPIFFE ID of a workload: `spiffe://trust-domain/path` (SPIFFE-ID, 2). Scheme and trust domain must be in lower
/// case, because identities are compared byte for byte.
pub(super) fn check_spiffe_id(id: &str) -> Result<(), &'static str> {
    let (trust_domain, path) = split(id)?;
    check_trust_domain(trust_domain)?;
    let path = path.ok_or("has no path, so it names a trust domain and no workload")?;
    path.split('/').try_for_each(check_segment)
}

/// Checks the beginning of SPIFFE IDs: a trust domain and any number of whole path segments, with a `/` at the end.
pub(super) fn check_spiffe_prefix(prefix: &str) -> Result<(), &'static str> {
    let (trust_domain, path) = split(prefix)?;
    check_trust_domain(trust_domain)?;
    let segments = path.and_then(|path| {
        if path.is_empty() {
            Some("")
        } else {
            path.strip_suffix('/')
        }
    });
    match segments.ok_or("does not end in \"/\"")? {
        "" if path == Some("") => Ok(()),
        segments => segments.split('/').try_for_each(check_segment),
    }
}

/// Trust domain and path, which follows the first `/`.
fn split(id: &str) -> Result<(&str, Option<&str>), &'static str> {
    if id.len() > LONGEST_SPIFFE_ID {
        return Err("is longer than 2048 bytes");
    }
    let rest = id.strip_prefix(SCHEME).ok_or("does not begin with \"spiffe://\"")?;
    Ok(match rest.split_once('/') {
        Some((trust_domain, path)) => (trust_domain, Some(path)),
        None => (rest, None),
    })
}

pub(super) fn check_trust_domain(trust_domain: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    match trust_domain.len() {
        0 => Err("has no trust domain"),
        1..=LONGEST_TRUST_DOMAIN if trust_domain.bytes().all(allowed) => Ok(()),
        1..=LONGEST_TRUST_DOMAIN => Err("has a trust domain with a character other than a-z 0-9 . - _"),
        _ => Err("has a trust domain of more than 255 bytes"),
    }
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match segment {
        "" => Err("has an empty path segment"),
        "." | ".." => Err("has \".\" or \"..\" as a path segment"),
        segment if segment.bytes().all(allowed) => Ok(()),
        _ => Err("has a path with a character other than A-Z a-z 0-9 . - _ /"),
    }
}

/// Checks a DNS name: lower-case labels of letters, digits and inner hyphens, no wildcard, no dot at the end.
pub(super) fn check_dns_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > LONGEST_DNS_NAME {
        return Err("has no characters, or more than 253");
    }
    name.split('.').try_for_each(check_label)?;
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("ends in a number, as an IP address does");
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if label.is_empty() || label.len() > LONGEST_LABEL {
        Err("has a label with no characters, or with more than 63")
    } else if !label.bytes().all(allowed) {
        Err("has a character other than a-z 0-9 - .")
    } else if label.starts_with('-') || label.ends_with('-') {
        Err("has a label that begins or ends with \"-\"")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_workload_ids_are_taken() {
        for good in [
            "spiffe://dynarex.local/order-service",
            "spiffe://td/ns/Prod/sa/Order_Service.v2",
            "spiffe://1.2.3.4/a",
            "spiffe://td/...",
        ] {
            assert_eq!(check_spiffe_id(good), Ok(()), "{good}");
        }
        assert_eq!(check_spiffe_id(&format!("spiffe://{}/a", "t".repeat(255))), Ok(()));
        assert_eq!(
            check_spiffe_id(&format!("spiffe://td/{}", "a".repeat(2048 - 12))),
            Ok(())
        );
    }

    #[test]
    fn malformed_workload_ids_are_refused() {
        for bad in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://td",
            "spiffe://td/",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/./a",
            "spiffe://td/a/..",
            "spiffe://TD/a",
            "SPIFFE://td/a",
            "spiffe:/td/a",
            "https://td/a",
            "spiffe://td:443/a",
            "spiffe://user@td/a",
            "spiffe://td/a?b=c",
            "spiffe://td/a#b",
            "spiffe://td/%61",
            "spiffe://tд/a",
            "spiffe://td/ä",
            "spiffe://td/a b",
            "spiffe://td/a\0",
            " spiffe://td/a",
            "spiffe://td/a\n",
        ] {
            assert!(check_spiffe_id(bad).is_err(), "{bad:?}");
        }
        assert!(check_spiffe_id(&format!("spiffe://{}/a", "t".repeat(256))).is_err());
        assert!(check_spiffe_id(&format!("spiffe://td/{}", "a".repeat(2049 - 12))).is_err());
    }

    #[test]
    fn a_prefix_ends_where_a_segment_ends() {
        for good in ["spiffe://td/", "spiffe://td/ns/", "spiffe://td/ns/prod/"] {
            assert_eq!(check_spiffe_prefix(good), Ok(()), "{good}");
        }
        for bad in [
            "spiffe://td",
            "spiffe://td/ns",
            "spiffe://",
            "spiffe:///",
            "spiffe://td//",
            "spiffe://td/../",
            "/",
        ] {
            assert!(check_spiffe_prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dns_names_are_lower_case_host_names() {
        for good in ["order-service", "orders.dynarex.internal", "a1.b2", "xn--bro-hoa.de"] {
            assert_eq!(check_dns_name(good), Ok(()), "{good}");
        }
        for bad in [
            "", ".", "a.", ".a", "a..b", "*.a", "A", "a_b", "-a", "a-", "10.0.0.1", "a/b", "a:1", "büro", "a b", "a\0",
        ] {
            assert!(check_dns_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_dns_name(&"a".repeat(64)).is_err());
        assert!(check_dns_name(&"a.".repeat(127)).is_err());
    }
}
