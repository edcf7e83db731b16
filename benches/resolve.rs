//! What a resolve costs beside an empty RPC: `cargo bench --bench resolve`.
//!
//! Starts the release binary as `tresor dev` in a temporary directory and calls it over mutual TLS from 8 connections with
//! 8 calls open on each. `Health/Check` and `ResolveForOrder` take turns in short slices, so that the machine's drift cancels
//! out. Throughput is counted here; the server's CPU time comes from the operating system.
//! `TRESOR_BENCH_SLICES` (default 10) sets how many slices of one second each gets.

#![allow(missing_docs, clippy::print_stdout, clippy::cast_precision_loss)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tresor::pb::v1;
use tresor::pb::v1::credential_resolver_client::CredentialResolverClient;

const CONNECTIONS: usize = 8;
const STREAMS: usize = 8;
const SLICE: Duration = Duration::from_secs(1);

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, PartialEq)]
enum Case {
    Health,
    Resolve,
}

#[derive(Default)]
struct Total {
    calls: u64,
    seconds: f64,
    cpu_seconds: f64,
}

fn main() -> Result<(), Error> {
    let slices: u32 = std::env::var("TRESOR_BENCH_SLICES")
        .ok()
        .map_or(Ok(10), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let (listen, health) = (free_port()?, free_port()?);
    let mut server = start(dir.path(), listen, health)?;
    let measured = measure(dir.path(), listen, server.id(), slices);
    // The server would outlive a failed measurement otherwise.
    server.kill()?;
    server.wait()?;
    let (null, resolve) = measured?;
    report(&null, &resolve);
    Ok(())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(dir: &Path, listen: u16, health: u16) -> Result<Child, Error> {
    let mut server = Command::new(env!("CARGO_BIN_EXE_tresor"))
        .arg("dev")
        .arg("--data-dir")
        .arg(dir)
        .args([
            "--listen",
            &format!("127.0.0.1:{listen}"),
            "--health-listen",
            &format!("127.0.0.1:{health}"),
        ])
        .stdout(Stdio::piped())
        // The line that each call leaves in the log is part of its cost.
        .stderr(std::fs::File::create(dir.join("log"))?)
        .spawn()?;
    let output = server.stdout.take().ok_or("the server has no output")?;
    let is_ready = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .any(|line| line == "ready");
    if is_ready {
        Ok(server)
    } else {
        Err("the server did not start".into())
    }
}

fn measure(dir: &Path, port: u16, server: u32, slices: u32) -> Result<(Total, Total), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(connect(dir, port).await?);
        }
        let (mut null, mut resolve) = (Total::default(), Total::default());
        for warm_up in [Case::Health, Case::Resolve] {
            slice(&channels, warm_up, server, &mut Total::default()).await?;
        }
        for _ in 0..slices {
            slice(&channels, Case::Health, server, &mut null).await?;
            slice(&channels, Case::Resolve, server, &mut resolve).await?;
        }
        Ok((null, resolve))
    })
}

async fn connect(dir: &Path, port: u16) -> Result<Channel, Error> {
    let read = |name: &str| std::fs::read(dir.join("pki").join(name));
    let tls = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(read("ca.pem")?))
        .identity(Identity::from_pem(
            read("order-service.pem")?,
            read("order-service.key")?,
        ));
    Ok(Endpoint::try_from(format!("https://127.0.0.1:{port}"))?
        .tls_config(tls)?
        .connect()
        .await?)
}

async fn slice(channels: &[Channel], case: Case, server: u32, total: &mut Total) -> Result<(), Error> {
    let (calls, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (started, cpu) = (Instant::now(), cpu_seconds(server)?);
    let callers: Vec<_> = channels
        .iter()
        .flat_map(|channel| std::iter::repeat_n(channel, STREAMS))
        .map(|channel| tokio::spawn(call(channel.clone(), case, Arc::clone(&calls), Arc::clone(&is_over))))
        .collect();
    tokio::time::sleep(SLICE).await;
    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await??;
    }
    total.calls += calls.load(Ordering::Relaxed);
    total.seconds += started.elapsed().as_secs_f64();
    total.cpu_seconds += cpu_seconds(server)? - cpu;
    Ok(())
}

async fn call(channel: Channel, case: Case, calls: Arc<AtomicU64>, is_over: Arc<AtomicBool>) -> Result<(), Error> {
    let mut health = HealthClient::new(channel.clone());
    let mut resolver = CredentialResolverClient::new(channel);
    let offices = ["leipzig", "dresden"];
    for n in 0_usize.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        match case {
            Case::Health => {
                health.check(HealthCheckRequest::default()).await?;
            }
            Case::Resolve => {
                resolver.resolve_for_order(request(offices[n % 2])).await?;
            }
        }
        calls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn request(office: &str) -> v1::ResolveForOrderRequest {
    let order = v1::Order {
        order_id: "2026-0815".into(),
        office_id: office.into(),
        ..Default::default()
    };
    v1::ResolveForOrderRequest {
        tenant: "demo".into(),
        provider: "dat".into(),
        order: Some(order),
        ..Default::default()
    }
}

/// User and system time of all of the process's threads, `proc(5)`: fields 14 and 15, in ticks of 10 ms.
fn cpu_seconds(process: u32) -> Result<f64, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields.get(11).ok_or("no user time")?.parse::<f64>()?
        + fields.get(12).ok_or("no system time")?.parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn report(null: &Total, resolve: &Total) {
    let rate = |total: &Total| total.calls as f64 / total.seconds;
    let cpu = |total: &Total| total.cpu_seconds * 1e6 / total.calls as f64;
    println!("{CONNECTIONS} connections x {STREAMS} streams     calls/s   server CPU us/call");
    for (name, total) in [("Health/Check", null), ("ResolveForOrder", resolve)] {
        println!("{name:<26}{:>10.0}{:>15.1}", rate(total), cpu(total));
    }
    println!(
        "resolve / Health/Check    {:>10.2}{:>15.2}",
        rate(resolve) / rate(null),
        cpu(resolve) / cpu(null)
    );
}
