//! What a vault shows whoever gathers metrics.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// The whole answer to a request, until the server closes the connection.
pub(crate) fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
}

/// The value of the metric whose name and labels are written so, which counts something.
pub(crate) fn count(address: SocketAddr, metric: &str) -> u64 {
    let answer = get(address, "/metrics");
    let found = answer
        .lines()
        .find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{metric} in {answer}")).parse().unwrap()
}
