//! The rules of the configuration.

use proptest::prelude::*;

use super::*;

/// The shortest configuration: what has no default.
const SHORTEST: &str = "[server]\ncertificate = 'server.pem'\nprivate_key = 'server.key'\nclient_ca = '/etc/ca.pem'\n\
                        [store]\npath = 'data'\n[keys]\nkek_file = 'kek.key'\n[policy]\nfile = 'policy.toml'\n[audit]\ndirectory = 'audit'\n";

fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &[])
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, "etc/tresor.toml", environment).map_err(|errors| errors.to_string())
}

fn with(section: &str, line: &str) -> String {
    let header = format!("[{section}]\n");
    if SHORTEST.contains(&header) {
        SHORTEST.replace(&header, &format!("{header}{line}\n"))
    } else {
        format!("{SHORTEST}{header}{line}\n")
    }
}

#[test]
fn what_is_not_given_has_its_default() {
    let config = parse(SHORTEST).unwrap();
    assert_eq!(config.server.listen, "0.0.0.0:8443".parse().unwrap());
    assert_eq!(config.server.health_listen, "0.0.0.0:8086".parse().unwrap());
    assert_eq!(config.server.max_connections.get(), 4096);
    assert_eq!(config.server.max_connections_per_caller.get(), 1024);
    assert_eq!(config.server.max_calls_per_caller.get(), 4096);
    assert_eq!(config.server.max_streams_per_connection.get(), 256);
    assert_eq!(config.server.longest_wait, Duration::from_millis(25));
    assert_eq!(config.server.default_deadline, Duration::from_secs(5));
    assert_eq!(config.server.drain_timeout, Duration::from_secs(20));
    assert_eq!(config.keys.kek, KekConfig::File("etc/kek.key".into()));
    assert_eq!(config.keys.previous_kek_file, None);
    assert_eq!(config.keys.recovery_public_key, None);
    assert_eq!(config.keys.data_key_max_age, Duration::from_hours(365 * 24));
    assert_eq!(config.signing.key_max_age, Duration::from_hours(365 * 24));
    assert_eq!(config.signing.publish_before, Duration::from_hours(1));
    assert_eq!(config.signing.issuer, "tresor");
    assert_eq!(config.resolver.cache_for, Duration::from_mins(1));
    assert_eq!(config.resolver.receipt_lifetime, Duration::from_hours(3650 * 24));
    assert_eq!(config.resolver.stale_wait, Duration::from_secs(2));
    assert!(!config.mail.allow_plaintext);
    assert_eq!(config.hardening.lock_memory, Demand::Auto);
    assert_eq!(config.hardening.sandbox, Demand::Auto);
    assert_eq!(config.log.format, LogFormat::Auto);
    assert_eq!(config.log.level, "info");
    assert_eq!(config.catalogue, Catalogue::built_in());
}

#[test]
fn relative_paths_are_relative_to_the_files_folder() {
    let config = parse(SHORTEST).unwrap();
    assert_eq!(config.store.path, Path::new("etc/data"));
    assert_eq!(config.server.client_ca, Path::new("/etc/ca.pem"));
    let beside = Config::parse(SHORTEST, "tresor.toml", []).unwrap();
    assert_eq!(beside.store.path, Path::new("data"));
}

#[test]
fn lists_are_read_from_the_file_and_from_the_environment() {
    let config = parse(SHORTEST).unwrap();
    assert!(config.server.client_crl.is_empty());
    assert_eq!(config.server.trust_domains, TrustDomains::default());
    let text = with(
        "server",
        "client_crl = ['a.crl', '/b.crl']\ntrust_domains = ['one.example']",
    );
    let domains = |names: &[&str]| {
        let names = names
            .iter()
            .map(|name| crate::access::TrustDomain::parse(name).unwrap());
        TrustDomains::new(names.collect())
    };
    let config = parse(&text).unwrap();
    assert_eq!(config.server.client_crl, [Path::new("etc/a.crl"), Path::new("/b.crl")]);
    assert_eq!(config.server.trust_domains, domains(&["one.example"]));
    let variables = [
        ("TRESOR_SERVER_TRUST_DOMAINS", "two.example, three.example"),
        ("TRESOR_SERVER_CLIENT_CRL", "c.crl"),
    ];
    let config = parse_with(&text, &variables).unwrap();
    assert_eq!(config.server.client_crl, [Path::new("etc/c.crl")]);
    assert_eq!(config.server.trust_domains, domains(&["two.example", "three.example"]));
    for bad in ["", "a,,b", "a,a", "spiffe://a", "*"] {
        let refused = parse_with(SHORTEST, &[("TRESOR_SERVER_TRUST_DOMAINS", bad)]).unwrap_err();
        assert!(
            refused.contains("environment variable TRESOR_SERVER_TRUST_DOMAINS"),
            "{refused}"
        );
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let environment = [
        ("TRESOR_SERVER_LISTEN", "127.0.0.1:1"),
        ("TRESOR_SERVER_WORKERS", "7"),
        ("TRESOR_MAIL_ALLOW_PLAINTEXT", "true"),
        ("TRESOR_STORE_PATH", "/var/lib/tresor"),
        ("TRESOR_RESOLVER_CACHE_FOR", "0s"),
        ("TRESOR_SERVER", "of the client"),
    ];
    let config = parse_with(&with("server", "listen = 'not even an address'"), &environment).unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(config.server.workers.get(), 7);
    assert!(config.mail.allow_plaintext);
    assert_eq!(config.store.path, Path::new("/var/lib/tresor"));
    assert_eq!(config.resolver.cache_for, Duration::ZERO);
}

#[test]
fn an_override_can_stand_in_for_a_whole_section() {
    let text = SHORTEST.replace("[keys]\nkek_file = 'kek.key'\n", "");
    let config = parse_with(&text, &[("TRESOR_KEYS_KEK_FILE", "/run/kek")]).unwrap();
    assert_eq!(config.keys.kek, KekConfig::File("/run/kek".into()));
}

#[test]
fn keys_are_wrapped_by_a_file_or_by_a_kms_and_not_by_both() {
    let kms = SHORTEST.replace(
        "kek_file = 'kek.key'",
        "kms_socket = '/run/kms.sock'\nprevious_kek_file = 'old.key'",
    );
    let config = parse(&kms).unwrap();
    assert_eq!(config.keys.kek, KekConfig::Kms("/run/kms.sock".into()));
    assert_eq!(config.keys.previous_kek_file, Some("etc/old.key".into()));
    let errors = parse(&with("keys", "kms_socket = '/run/kms.sock'")).unwrap_err();
    assert!(
        errors.starts_with("etc/tresor.toml:8: keys.kms_socket: is given beside kek_file"),
        "{errors}"
    );
    let errors = parse(&with("keys", "recovery_public_key = 'mine'")).unwrap_err();
    assert!(
        errors.contains("keys.recovery_public_key: is no recovery key"),
        "{errors}"
    );
}

#[test]
fn a_misspelt_override_is_an_error() {
    let environment = [("TRESOR_SERVER_LISTN", "x"), ("TRESOR_SERVER_WORKERS", "many")];
    let errors = parse_with(SHORTEST, &environment).unwrap_err();
    let expected = "environment variable TRESOR_SERVER_LISTN: overrides no setting; unset it or correct its name; \
                    did you mean \"TRESOR_SERVER_LISTEN\"?\n\
                    environment variable TRESOR_SERVER_WORKERS: server.workers: \"many\" is not a whole number between \
                    1 and 256";
    assert_eq!(errors, expected);
}

#[test]
fn an_override_that_is_not_text_is_an_error() {
    let environment = Environment::new([("TRESOR_LOG_LEVEL".to_owned(), Err(environment::NotText))]);
    let errors = reader::read(SHORTEST, "tresor.toml", &environment, |root| {
        read_config(root, Path::new(""))
    })
    .unwrap_err();
    assert_eq!(
        errors.to_string(),
        "environment variable TRESOR_LOG_LEVEL: log.level: is not UTF-8"
    );
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = "[server]\nlisten = \"foo\"\nhealth_listn = '0.0.0.0:1'\ncertificate = ''\nworkers = '4'\n\
                max_connections = 0\ndefault_deadline = '1h'\ndrain_timeout = 20\n\n[stor]\npath = 'data'\n\n[log]\n\
                level = 'inof'\nformat = 'xml'\n\n[mail]\nallow_plaintext = 'no'\n\n[signing]\nissuer = \"a\\u0000\"\n\n\
                [[provider]]\nid = 'dat'\ncolour = 'red'\n";
    let errors = parse(text).unwrap_err();
    let expected = [
        "etc/tresor.toml: audit.directory: is missing; it is required",
        "etc/tresor.toml: keys.kek_file: is missing; it is required, or kms_socket is",
        "etc/tresor.toml: policy.file: is missing; it is required",
        "etc/tresor.toml: store.path: is missing; it is required",
        "etc/tresor.toml:1: server.client_ca: is missing; it is required",
        "etc/tresor.toml:1: server.private_key: is missing; it is required",
        "etc/tresor.toml:2: server.listen: \"foo\" is not an address and port, such as 0.0.0.0:8443",
        "etc/tresor.toml:3: server.health_listn: is not a known key; did you mean \"health_listen\"?",
        "etc/tresor.toml:4: server.certificate: is empty; a path is expected",
        "etc/tresor.toml:5: server.workers: is text; a whole number between 1 and 256 (without quotes) is expected",
        "etc/tresor.toml:6: server.max_connections: 0 is not a whole number between 1 and 1000000",
        "etc/tresor.toml:7: server.default_deadline: \"1h\" is not a duration between 100ms and 30s, such as \"100ms\"",
        "etc/tresor.toml:8: server.drain_timeout: is a number; text in quotes is expected",
        "etc/tresor.toml:10: stor: is not a known key; did you mean \"store\"?",
        "etc/tresor.toml:14: log.level: \"inof\" is not a level; expected is off, error, warn, info, debug or trace, or \
         directives such as \"info,tresor=debug\"",
        "etc/tresor.toml:15: log.format: \"xml\" is not one of \"auto\", \"text\", \"json\"",
        "etc/tresor.toml:18: mail.allow_plaintext: is text; true or false (without quotes) is expected",
        "etc/tresor.toml:21: signing.issuer: holds the unprintable character '\\0'",
        "etc/tresor.toml:25: provider[1].colour: is not a known key; known are \"id\", \"removed\", \"name\", \
         \"categories\", \"kind\", \"customer_number\", \"customer_number_digits\", \"customer_signature\", \"scopes\"",
    ];
    assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn sizes_and_spans_of_the_audit_log_are_read_as_people_write_them() {
    let audit = |keys: &str| parse(&format!("{SHORTEST}{keys}\n")).map(|config| config.audit);
    assert_eq!(audit("rotate_size = '1GiB'").unwrap().rotate_size, 1 << 30);
    assert_eq!(audit("rotate_size = '4096KiB'").unwrap().rotate_size, 4 << 20);
    assert_eq!(
        audit("keep = '365d'").unwrap().keep,
        Some(Duration::from_hours(365 * 24))
    );
    assert_eq!(audit("keep = 'forever'").unwrap().keep, None);
    for (wrong, told) in [
        (
            "rotate_size = '64'",
            "\"64\" is not a size between 1MiB and 1024MiB, such as \"64MiB\"",
        ),
        ("rotate_size = '99999999999999GiB'", "is not a size"),
        ("rotate_size = '2GiB'", "is not a size"),
        (
            "keep = 'always'",
            "is not a duration between 1h and 36500d, such as \"1h\", nor \"forever\"",
        ),
    ] {
        let errors = audit(wrong).unwrap_err();
        assert!(errors.contains(told), "{errors}");
    }
}

#[test]
fn broken_syntax_is_told_with_its_line() {
    let errors = parse("[server\nlisten = 'a'\n[store]\npath = \n").unwrap_err();
    assert!(errors.starts_with("etc/tresor.toml:1: "), "{errors}");
    assert!(errors.contains("etc/tresor.toml:4: "), "{errors}");
    let twice = parse("[store]\npath = 'a'\npath = 'b'\n").unwrap_err();
    assert!(twice.starts_with("etc/tresor.toml:3: "), "{twice}");
}

#[test]
fn a_table_is_written_as_a_table() {
    let errors = parse(&format!(
        "server = 1\nprovider = 2\nlog = ['x']\n{}",
        &SHORTEST[SHORTEST.find("[store]").unwrap()..]
    ));
    let expected = "etc/tresor.toml:1: server: is a number; a table is expected: [server]\n\
                    etc/tresor.toml:2: provider: is a number; entries are expected, each under its own [[provider]]\n\
                    etc/tresor.toml:3: log: is a list; a table is expected: [log]";
    assert_eq!(errors.unwrap_err(), expected);
}

#[test]
fn values_outside_their_limits_are_refused() {
    for (section, line) in [
        ("server", "listen = 'localhost:8443'"),
        ("server", "listen = '0.0.0.0'"),
        ("server", "health_listen = '0.0.0.0:8443'"),
        ("metrics", "listen = '0.0.0.0:8443'"),
        ("metrics", "listen = '0.0.0.0:8086'"),
        ("traces", "endpoint = 'http://user:hidden@localhost:4317'"),
        ("traces", "endpoint = 'user:hidden@localhost:4317'"),
        ("server", "workers = 0"),
        ("server", "workers = 257"),
        ("server", "workers = -1"),
        ("server", "workers = 99999999999999999999"),
        ("server", "max_connections_per_caller = 0"),
        ("server", "max_calls_per_caller = 0"),
        ("server", "max_streams_per_connection = 65536"),
        ("resolver", "cache_for = '601s'"),
        ("resolver", "cache_for = '-1s'"),
        ("resolver", "cache_for = '60'"),
        ("resolver", "receipt_lifetime = '59m'"),
        ("resolver", "stale_wait = '31s'"),
        ("signing", "issuer = ''"),
        ("log", "level = ''"),
        ("log", "level = 'info,'"),
        ("log", "level = 'info,tresor=loud'"),
        ("log", "level = 'info,[x'"),
    ] {
        let errors = parse(&with(section, line)).expect_err(line);
        let key = line.split(' ').next().unwrap();
        assert!(errors.contains(&format!(": {section}.{key}: ")), "{line}: {errors}");
        assert!(!errors.contains("hidden"), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    assert!(parse(&with("signing", &format!("issuer = '{}'", "x".repeat(257)))).is_err());
}

#[test]
fn values_within_their_limits_are_taken() {
    for (section, line) in [
        ("server", "listen = '[::]:8443'"),
        ("server", "workers = 0x10"),
        ("server", "max_connections = 10_000"),
        ("resolver", "cache_for = '10m'"),
        ("resolver", "cache_for = '0s'"),
        ("resolver", "receipt_lifetime = '10years'"),
        ("log", "level = 'warn,tresor=debug,h2=off'"),
        ("log", "level = 'off'"),
    ] {
        assert_eq!(parse(&with(section, line)).err(), None, "{line}");
    }
}

#[test]
fn blanks_around_the_directives_of_the_log_mean_nothing() {
    let level = |level: &str| parse(&with("log", &format!("level = '{level}'")));
    let config = level(" info, tresor=debug ,h2=off").unwrap();
    assert_eq!(config.log.level, "info,tresor=debug,h2=off");
    // The filter's own parser panics over this one.
    assert!(level(" i\u{fffd}[x").is_err());
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for opening in ["[", "{a=", "[{a="] {
        assert!(parse(&format!("a = {}", opening.repeat(100_000))).is_err());
    }
    assert!(parse(&format!("a{} = 1", ".a".repeat(100_000))).is_err());
}

#[test]
fn a_file_that_is_not_there_is_told_by_name() {
    let errors = Config::load(Path::new("/nowhere/tresor.toml")).unwrap_err();
    assert!(
        errors.to_string().starts_with("/nowhere/tresor.toml: cannot be read: "),
        "{errors}"
    );
}

proptest! {
    #[test]
    fn no_text_brings_the_reader_down(
        text in "(\\[|\\]|server|provider|log|listen|id|scopes|=|'|\"|\\n|[0-9]|,|\\{|\\}|\\.|\\PC){0,60}",
    ) {
        drop(parse(&text));
    }
}
