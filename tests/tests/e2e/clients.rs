//! Clients in other languages, made from the `.proto` files alone.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};
use quorate_tests::cluster::{Cluster, Size};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[tokio::test]
async fn a_python_client_publishes_and_consumes() -> Result<()> {
    let python = Path::new(ROOT).join("target/test-python/bin/python");
    // `make test` leaves this test out, and says so, where setting up Python was not possible.
    ensure!(
        python.exists(),
        "there is no Python with grpcio: run `make test-setup`"
    );
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let gateway = format!("127.0.0.1:{}", cluster.gateway_ports[0]);
    let output = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .arg(Path::new(ROOT).join("tests/clients/python/roundtrip.py"))
            .args([
                &Path::new(ROOT).join("proto").display().to_string(),
                &gateway,
                "python",
                "1000",
            ])
            .output()
    })
    .await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(said.contains("\"confirmed\": 1000"), "{said}");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
