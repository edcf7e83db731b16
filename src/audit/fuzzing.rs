//! Lines of an audit log that somebody else may have written.

use std::time::Duration;

use super::chain::Link;
use super::entry::{Entry, Event, Outcome};
use super::jws::Keys;
use super::read::Filter;
use super::record::Record;
use super::verify::Verifier;
use crate::fuzzing::Input;
use crate::vault::ids::SubjectId;
use crate::vault::scope::Scope;

/// Files of a log: verifying them ends, and none is whole that a vault has not signed. A JWK set and a checkpoint come the same way.
pub(crate) fn log(data: &[u8]) {
    let keys = Keys::parse(KEYS).expect("it is ours");
    let mut verifier = Verifier::new(Some(keys), [Link::START]);
    for file in data.split(|byte| *byte == 0) {
        let read = verifier.read("a file", file, (0, Duration::ZERO));
        read.expect("memory can be read");
        for line in file.split(|byte| *byte == b'\n') {
            if let Ok(record) = Record::parse(line) {
                let _ = (Filter::default().takes(&record), record.previous());
                if let Ok(text) = std::str::from_utf8(line) {
                    let _ = Keys::parse(text);
                }
            }
        }
    }
    let report = verifier.finish();
    assert!(
        !report.findings.is_empty(),
        "a log that nobody has signed was called whole"
    );
}

/// A key of RFC 8037, appendix A.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA",
    "kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Whatever a call says of itself: it becomes one line, which reads back the same and holds nothing else.
pub(crate) fn entry(data: &[u8]) {
    let mut input = Input(data);
    let texts: [String; 8] = std::array::from_fn(|_| input.text());
    let [caller, tenant, provider, order, request, receipt, code, reason] = &texts;
    let numbers: [u64; 4] = std::array::from_fn(|_| u64::from(input.number()));
    let scope = SubjectId::parse(&input.text()).ok().map(Scope::Office);
    let entry = Entry {
        caller: Some(caller),
        peer: Some("[::1]:7"),
        tenant: Some(tenant),
        provider: Some(provider),
        scope: scope.as_ref(),
        version: Some(numbers[0]),
        order: Some(order),
        request: Some(request),
        receipt: Some(receipt),
        intent: Some(numbers[1]),
        revision: Some(numbers[2]),
        messages: Some(numbers[3]),
        outcome: Some(Outcome::Denied),
        code: Some(code),
        reason: Some(reason),
        ..Entry::new(Event::Call, "ResolveForOrder")
    };
    let (mut link, mut lines) = (Link::START, Vec::new());
    link.append(&mut lines, "2026-01-01T00:00:00.000Z", entry.body().as_str());
    let written = lines.strip_suffix(b"\n").expect("a line has its end");
    assert!(!written.contains(&b'\n'));
    let record = Record::parse(written).expect("it was just written");
    let read = [
        &record.caller,
        &record.tenant,
        &record.provider,
        &record.order_id,
        &record.request_id,
        &record.receipt,
        &record.code,
        &record.reason,
    ];
    assert!(
        read.iter()
            .zip(&texts)
            .all(|(read, text)| read.as_deref() == Some(text.as_str()))
    );
    assert_eq!(
        (&*record.event, record.method.as_deref()),
        ("call", Some("ResolveForOrder"))
    );
    assert_eq!(record.scope.as_deref(), scope.map(|scope| scope.to_string()).as_deref());
    assert_eq!(
        (record.version, record.intent, record.revision),
        (Some(numbers[0]), Some(numbers[1]), Some(numbers[2]))
    );
    assert_eq!(record.jws, None);
}
