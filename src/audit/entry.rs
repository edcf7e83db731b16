//! What a call says of itself, and how that is written. Identifiers only, and only those that were parsed.

use std::fmt::{self, Write as _};

use crate::json::push_text;
use crate::vault::scope::Scope;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call, or a part of one, that is over.
    Call,
    /// A change that is about to be made.
    Intent,
    /// A stream that is over.
    StreamEnded,
    /// A change that the vault is about to make by itself.
    Upkeep,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller got what it asked for.
    Ok,
    /// It was not allowed to, or not now.
    Denied,
    /// Anything else.
    Failed,
}

/// One call. What is not known is left out of the line.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What the line is about.
    pub event: Event,
    /// The method's name.
    pub method: &'a str,
    /// The caller's identity.
    pub caller: Option<&'a str>,
    /// Where it called from: an address and a port.
    pub peer: Option<&'a str>,
    /// The firm.
    pub tenant: Option<&'a str>,
    /// The third-party system.
    pub provider: Option<&'a str>,
    /// Whose orders the credential is for.
    pub scope: Option<&'a Scope>,
    /// The credential's version.
    pub version: Option<u64>,
    /// How much of it was shown.
    pub reveal: Option<&'a str>,
    /// The order.
    pub order: Option<&'a str>,
    /// The caller's own id of the request.
    pub request: Option<&'a str>,
    /// The id (`jti`) of the receipt that was given.
    pub receipt: Option<&'a str>,
    /// The number of the line that announced the change.
    pub intent: Option<u64>,
    /// The revision that has the change that was made, or that a backup is of.
    pub revision: Option<u64>,
    /// How many messages a stream has sent.
    pub messages: Option<u64>,
    /// What became of it; none for what is not over.
    pub outcome: Option<Outcome>,
    /// The gRPC code's name.
    pub code: Option<&'a str>,
    /// The reason of the error.
    pub reason: Option<&'a str>,
}

impl Event {
    fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Intent => "intent",
            Self::StreamEnded => "stream_ended",
            Self::Upkeep => "upkeep",
        }
    }
}

impl Outcome {
    /// Its word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl<'a> Entry<'a> {
    /// An entry that says nothing yet but what it is about.
    #[must_use]
    pub fn new(event: Event, method: &'a str) -> Self {
        Self {
            event,
            method,
            caller: None,
            peer: None,
            tenant: None,
            provider: None,
            scope: None,
            version: None,
            reveal: None,
            order: None,
            request: None,
            receipt: None,
            intent: None,
            revision: None,
            messages: None,
            outcome: None,
            code: None,
            reason: None,
        }
    }

    /// What it is about, as the inside of a JSON object. This is on the way of every call: one buffer, no intermediate values.
    pub(crate) fn body(&self) -> Body {
        let mut body = Body::event(self.event.as_str());
        body.text("method", self.method);
        body.optional("caller", self.caller);
        body.optional("peer", self.peer);
        body.optional("tenant", self.tenant);
        body.optional("provider", self.provider);
        if let Some(scope) = self.scope {
            body.scope(scope);
        }
        body.number("version", self.version);
        body.optional("reveal", self.reveal);
        body.optional("order_id", self.order);
        body.optional("request_id", self.request);
        body.optional("receipt", self.receipt);
        body.number("intent", self.intent);
        body.number("revision", self.revision);
        body.number("messages", self.messages);
        body.optional("outcome", self.outcome.map(Outcome::as_str));
        body.optional("code", self.code);
        body.optional("reason", self.reason);
        body
    }
}

/// The inside of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body(String);

impl Body {
    /// A body that says what the line is about.
    pub(super) fn event(name: &str) -> Self {
        let mut text = String::with_capacity(384);
        text.push_str("\"event\":\"");
        text.push_str(name);
        text.push('"');
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        push_text(&mut self.0, value);
    }

    pub(super) fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub(super) fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            write!(self.0, "{value}").expect("writing to memory cannot fail");
        }
    }

    /// A scope, as it stands in a credential's path.
    fn scope(&mut self, scope: &Scope) {
        self.name("scope");
        self.0.push('"');
        self.0.push_str(scope.kind().as_str());
        if let Some(subject) = scope.subject() {
            self.0.push('/');
            self.0.push_str(subject.as_str());
        }
        self.0.push('"');
    }

    /// A value that is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.push_str(json);
    }

    /// A value whose text needs no escapes, like a hash.
    pub(super) fn plain(&mut self, name: &str, value: &dyn fmt::Display) {
        self.name(name);
        write!(self.0, "\"{value}\"").expect("writing to memory cannot fail");
    }

    fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vault::ids::SubjectId;

    fn parsed(entry: &Entry<'_>) -> serde_json::Value {
        serde_json::from_str(&format!("{{{}}}", entry.body().as_str())).unwrap()
    }

    #[test]
    fn an_entry_says_what_is_known_and_nothing_else() {
        let scope = Scope::Office(SubjectId::parse("leipzig").unwrap());
        let entry = Entry {
            caller: Some("spiffe://td/orders"),
            peer: Some("127.0.0.1:7"),
            tenant: Some("demo"),
            provider: Some("dat"),
            scope: Some(&scope),
            version: Some(3),
            order: Some("2026-0815"),
            outcome: Some(Outcome::Ok),
            code: Some("OK"),
            ..Entry::new(Event::Call, "ResolveForOrder")
        };
        let expected = serde_json::json!({
            "event": "call", "method": "ResolveForOrder", "caller": "spiffe://td/orders", "peer": "127.0.0.1:7",
            "tenant": "demo", "provider": "dat", "scope": "office/leipzig", "version": 3, "order_id": "2026-0815",
            "outcome": "ok", "code": "OK",
        });
        assert_eq!(parsed(&entry), expected);
    }

    proptest! {
        #[test]
        fn no_order_id_breaks_out_of_its_line(order in "(\\PC|[\"\\\\\n\r\t\u{0}\u{7f}{}:,]){0,40}") {
            let entry = Entry { order: Some(&order), ..Entry::new(Event::Call, "ResolveForOrder") };
            let body = entry.body();
            prop_assert!(!body.as_str().contains(['\n', '\r', '\0']));
            let found = parsed(&entry);
            prop_assert_eq!(found["order_id"].as_str(), Some(&*order));
            prop_assert_eq!(found.as_object().unwrap().len(), 3);
        }
    }
}
