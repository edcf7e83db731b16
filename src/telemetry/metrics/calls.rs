//! Every call, by its method and how it ends.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::durations::{self, BUCKETS};
use super::sharded::Sharded;
use crate::pb;
use crate::telemetry::code_name;

/// The codes of gRPC: 0 to 16.
const CODES: usize = 17;
/// What is counted for each method: how often it ended with each code, how often an answer took how long, how long all of them
/// took (nanoseconds), and how many are open.
const DURATIONS: usize = CODES;
const SUM: usize = DURATIONS + BUCKETS;
const OPEN: usize = SUM + 1;
const NUMBERS: usize = OPEN + 1;

/// A process has one set of them.
static CALLS: LazyLock<Calls> = LazyLock::new(Calls::new);

struct Calls {
    /// The last stands for all that are not there.
    methods: Vec<Method>,
    numbers: Sharded,
}

struct Method {
    /// `/service/name`
    path: String,
    service: String,
    name: String,
    is_stream: bool,
}

/// A call that is counted. If it is dropped before its end, its caller has gone.
pub struct Counted {
    method: usize,
    started: Instant,
    is_over: bool,
}

impl Counted {
    /// A call of the method with this path begins.
    #[must_use]
    pub fn begin(path: &str) -> Self {
        let method = CALLS.find(path);
        CALLS.numbers.mine().add(method * NUMBERS + OPEN, 1);
        Self {
            method,
            started: Instant::now(),
            is_over: false,
        }
    }

    /// When it began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The path of its method; `/other/other` if there is none.
    #[must_use]
    pub fn path(&self) -> &'static str {
        &CALLS.methods[self.method].path
    }

    /// The path of its method, if there is that method.
    #[must_use]
    pub fn known_path(&self) -> Option<&'static str> {
        (self.method + 1 < CALLS.methods.len()).then(|| self.path())
    }

    /// Whether its answer is a stream, which may fail after it has begun.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        CALLS.methods[self.method].is_stream
    }

    /// Its answer is there, or has begun.
    pub fn answered(&self) {
        self.note(self.started.elapsed());
    }

    /// It is over.
    pub fn end(mut self, code: Code) {
        self.end_with(code);
    }

    fn note(&self, took: Duration) {
        let (numbers, at) = (CALLS.numbers.mine(), self.method * NUMBERS);
        numbers.add(at + DURATIONS + durations::bucket(took), 1);
        numbers.add(at + SUM, durations::nanoseconds(took));
    }

    fn end_with(&mut self, code: Code) {
        self.is_over = true;
        let (numbers, at) = (CALLS.numbers.mine(), self.method * NUMBERS);
        numbers.add(at + place(code), 1);
        numbers.take(at + OPEN, 1);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.is_over {
            self.end_with(Code::Cancelled);
        }
    }
}

fn place(code: Code) -> usize {
    usize::try_from(i32::from(code)).unwrap_or_default()
}

impl Calls {
    fn new() -> Self {
        let mut methods: Vec<_> = [pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET]
            .into_iter()
            .flat_map(methods_in)
            .collect();
        for version in ["v1", "v1alpha"] {
            let service = format!("grpc.reflection.{version}.ServerReflection");
            methods.push(Method::new(&service, "ServerReflectionInfo", true));
        }
        // By far the most calls are of its methods.
        methods.sort_by_key(|method| method.service != pb::v1::credential_resolver_server::SERVICE_NAME);
        methods.push(Method::new("other", "other", false));
        let numbers = Sharded::new(methods.len() * NUMBERS);
        Self { methods, numbers }
    }

    fn find(&self, path: &str) -> usize {
        let known = self.methods.iter().position(|method| method.path == path);
        known.unwrap_or(self.methods.len() - 1)
    }

    /// What was counted for each method.
    fn all(&self) -> impl Iterator<Item = (&Method, [u64; NUMBERS])> {
        let numbers = |at: usize| std::array::from_fn(|place| self.numbers.sum(at * NUMBERS + place));
        self.methods
            .iter()
            .enumerate()
            .map(move |(at, method)| (method, numbers(at)))
    }
}

impl Method {
    fn new(service: &str, name: &str, is_stream: bool) -> Self {
        Self {
            path: format!("/{service}/{name}"),
            service: service.to_owned(),
            name: name.to_owned(),
            is_stream,
        }
    }

    fn labels(&self) -> [(&'static str, &str); 2] {
        [("service", &self.service), ("method", &self.name)]
    }
}

fn methods_in(descriptors: &[u8]) -> Vec<Method> {
    let files = FileDescriptorSet::decode(descriptors).expect("the descriptors were compiled into this program");
    let mut methods = Vec::new();
    for file in &files.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            let of_service = service.method.iter();
            methods.extend(of_service.map(|method| Method::new(&name, method.name(), method.server_streaming())));
        }
    }
    methods
}

/// Writes what was counted.
#[derive(Debug)]
pub(super) struct CallsCollector;

impl Collector for CallsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all: Vec<_> = CALLS.all().collect();
        let help = "Calls that are over, by how they ended; streams count at their end.";
        let mut calls = encoder.encode_descriptor("grpc_calls", help, None, MetricType::Counter)?;
        for (method, numbers) in &all {
            for (code, count) in numbers[..CODES].iter().enumerate() {
                let code = code_name(Code::from(i32::try_from(code).unwrap_or_default()));
                let [service, name] = method.labels();
                let labels = [service, name, ("code", code)];
                let mut call = calls.encode_family(&labels)?;
                call.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        let help = "How long answers took, or streams to begin; from the head of the call to that of its answer.";
        let unit = Some(&Unit::Seconds);
        let mut times = encoder.encode_descriptor("grpc_call_duration", help, unit, MetricType::Histogram)?;
        for (method, numbers) in &all {
            let counts = std::array::from_fn(|bucket| numbers[DURATIONS + bucket]);
            durations::encode(times.encode_family(&method.labels())?, counts, numbers[SUM])?;
        }
        let help = "Calls that are under way, open streams among them.";
        let mut open = encoder.encode_descriptor("grpc_open_calls", help, None, MetricType::Gauge)?;
        for (method, numbers) in &all {
            open.encode_family(&method.labels())?.encode_gauge(&numbers[OPEN])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: &str = "/dynarex.credentials.v1.VaultOperator/RewrapKeys";

    /// What the numbers of the method are, which no other test calls.
    fn numbers() -> [u64; NUMBERS] {
        let (_, numbers) = CALLS.all().find(|(method, _)| method.path == METHOD).unwrap();
        numbers
    }

    #[test]
    fn a_call_counts_once_however_it_ends() {
        let before = numbers();
        let answered = Counted::begin(METHOD);
        answered.answered();
        let gone = Counted::begin(METHOD);
        let open = numbers()[OPEN] - before[OPEN];
        answered.end(Code::NotFound);
        drop(gone);
        let after = numbers();
        let difference = |place: usize| after[place] - before[place];
        assert_eq!((open, difference(OPEN)), (2, 0));
        assert_eq!(difference(place(Code::NotFound)), 1);
        assert_eq!(difference(place(Code::Cancelled)), 1);
        assert_eq!((DURATIONS..SUM).map(difference).sum::<u64>(), 1);
        assert!(difference(SUM) > 0);
    }

    #[test]
    fn every_method_is_known_and_all_others_are_one() {
        let resolve = CALLS.find("/dynarex.credentials.v1.CredentialResolver/ResolveForOrder");
        assert!(resolve < 4, "it is found at once");
        for (path, is_stream) in [
            ("/dynarex.credentials.v1.CredentialResolver/WatchChanges", true),
            ("/dynarex.credentials.v1.CredentialAdmin/PutCredential", false),
            ("/dynarex.credentials.v1.VaultOperator/Backup", true),
            ("/grpc.health.v1.Health/Check", false),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true),
        ] {
            let method = &CALLS.methods[CALLS.find(path)];
            assert_eq!((method.path.as_str(), method.is_stream), (path, is_stream));
        }
        for path in ["", "/", "/nothing", "/dynarex.credentials.v1.VaultOperator/Nothing"] {
            assert_eq!(CALLS.methods[CALLS.find(path)].name, "other");
        }
    }
}
