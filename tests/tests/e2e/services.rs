//! Each service on its own: files and environment, health, metrics, a clean stop, what it says to a wrong setting.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use quorate_tests::{
    cluster::{Cluster, Size},
    process::{program, write_file},
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const PROGRAMS: [&str; 3] = ["coordinator", "storage-node", "gateway"];

fn run(service: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(program(&format!("quorate-{service}"))?);
    command.args(arguments).envs(environment.iter().copied());
    Ok(command.output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A plain HTTP GET; returns status line and body.
async fn get(port: u16, path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok((
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    ))
}

#[test]
fn the_example_configuration_of_each_service_is_taken() -> Result<()> {
    for service in PROGRAMS {
        let file = format!(
            "{}/../deploy/config/{service}.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        let output = run(service, &["--config", &file, "--check"], &[])?;
        ensure!(
            output.status.success(),
            "{service}: {}",
            text(&output.stderr)
        );
        ensure!(
            text(&output.stdout).contains("production"),
            "{service}: {}",
            text(&output.stdout)
        );
    }
    Ok(())
}

#[test]
fn the_environment_is_above_the_file_and_the_name_above_both() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("gateway.toml");
    write_file(&file, "name = \"file\"\nlisten = \"127.0.0.1:1\"\n")?;
    let arguments = [
        "--config",
        &file.display().to_string(),
        "--name",
        "flag",
        "--check",
    ];
    let environment = [
        ("QUORATE_LISTEN", "127.0.0.1:2"),
        ("QUORATE_NAME", "environment"),
    ];
    let output = run("gateway", &arguments, &environment)?;
    let printed = text(&output.stdout);
    ensure!(output.status.success(), "{}", text(&output.stderr));
    ensure!(
        printed.contains("127.0.0.1:2") && !printed.contains("127.0.0.1:1\""),
        "{printed}"
    );
    ensure!(
        printed.contains("flag") && !printed.contains("environment"),
        "{printed}"
    );
    Ok(())
}

#[test]
fn an_unknown_or_wrong_key_is_an_error_that_names_it() -> Result<()> {
    let folder = TempDir::new()?;
    for service in PROGRAMS {
        let file = folder.path().join("wrong.toml");
        write_file(&file, "lisen = \"127.0.0.1:1\"\n")?;
        let output = run(
            service,
            &["--config", &file.display().to_string(), "--check"],
            &[],
        )?;
        ensure!(!output.status.success(), "{service} takes an unknown key");
        let said = text(&output.stderr);
        ensure!(
            said.contains("lisen") && said.contains("wrong.toml"),
            "{service}: {said}"
        );
        let output = run(service, &["--check"], &[("QUORATE_LISTEN", "nowhere")])?;
        ensure!(!output.status.success(), "{service} listens nowhere");
        ensure!(
            text(&output.stderr).to_lowercase().contains("listen"),
            "{service}: {}",
            text(&output.stderr)
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_service_tells_its_health_and_metrics_and_stops_cleanly() -> Result<()> {
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    for port in &cluster.health_ports {
        for path in ["/healthz", "/readyz"] {
            let (status, body) = get(*port, path).await?;
            ensure!(status.contains(" 200 "), "{port}{path}: {status} {body}");
        }
        let (status, body) = get(*port, "/metrics").await?;
        ensure!(
            status.contains(" 200 ") && body.contains("quorate_"),
            "{port}: {status} {body}"
        );
    }
    let mut health = HealthClient::new(cluster.channel(0).await?);
    let answer = health
        .check(HealthCheckRequest::default())
        .await?
        .into_inner();
    ensure!(answer.status == 1, "gRPC health says {answer:?}");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    ensure!(
        cluster.warnings().is_empty(),
        "a quiet cluster warns: {:#?}",
        cluster.warnings()
    );

    cluster.gateways[0].signal(Signal::CONT)?;
    for service in cluster.gateways.iter_mut().chain(&mut cluster.nodes) {
        ensure!(
            service.stop()?,
            "{} did not stop with success:\n{}",
            service.name(),
            service.log()
        );
    }
    ensure!(cluster.coordinator.stop()?, "{}", cluster.coordinator.log());
    Ok(())
}
