//! `quorate dev`, which is what `make run` starts: a whole cluster, and none of it left behind.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_tests::{eventually::eventually, process::program};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

const PATIENCE: Duration = Duration::from_secs(60);

/// First ports of each kind, six apart, from one free one.
fn port_arguments() -> Result<(u16, Vec<String>)> {
    let base = loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if port < u16::MAX - 60 && (0..36).all(|offset| free(port + offset)) {
            break port;
        }
    };
    let flags = [
        "gateway-port",
        "console-port",
        "node-port",
        "node-health-port",
        "coordinator-port",
        "coordinator-health-port",
    ];
    let arguments = flags.iter().zip((base..).step_by(6));
    Ok((
        base,
        arguments
            .flat_map(|(flag, port)| [format!("--{flag}"), port.to_string()])
            .collect(),
    ))
}

fn dev(ports: &[String], data: &TempDir, more: &[&str]) -> Result<Command> {
    let mut command = Command::new(program("quorate")?);
    command
        .arg("dev")
        .args(ports)
        .arg("--data")
        .arg(data.path().join("data"))
        .args(more);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Reads what it prints until a line holds `mark`.
fn read_until(child: &mut Child, mark: &str) -> Result<Vec<String>> {
    let output = child.stdout.take().context("no output")?;
    let mut lines = Vec::new();
    let mut reader = BufReader::new(output);
    loop {
        let mut line = String::new();
        ensure!(
            reader.read_line(&mut line)? > 0,
            "it ended after {lines:#?}"
        );
        let found = line.contains(mark);
        lines.push(line);
        if found {
            // The pipe stays open for whatever it prints later.
            std::thread::spawn(move || reader.lines().map_while(Result::ok).for_each(drop));
            return Ok(lines);
        }
    }
}

fn pid(number: u64) -> Result<Pid> {
    Pid::from_raw(i32::try_from(number)?).context("not a process id")
}

fn picture(url: &str) -> Result<Value> {
    let output = Command::new(program("quorate")?)
        .args(["--url", url, "cluster", "--output", "json"])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test]
async fn a_cluster_starts_heals_and_stops_whole() -> Result<()> {
    let data = TempDir::new()?;
    let (base, ports) = port_arguments()?;
    let mut child = dev(&ports, &data, &[])?.spawn()?;
    let dev_pid = pid(child.id().into())?;
    let (mut child, said) =
        spawn_blocking(move || read_until(&mut child, "quorate send").map(|lines| (child, lines)))
            .await??;
    ensure!(
        said.concat().contains(&base.to_string()),
        "the gateways' addresses are missing: {said:#?}"
    );

    let url = format!("tcp://127.0.0.1:{base}");
    let before = picture(&url)?;
    let nodes = before["nodes"].as_array().context("no nodes")?.clone();
    ensure!(
        nodes.len() == 3 && nodes.iter().all(|node| node["alive"] == true),
        "{before}"
    );
    let victim = nodes[0]["pid"].as_u64().context("no pid")?;
    kill_process(pid(victim)?, Signal::KILL)?;
    let after = eventually(
        "the killed node to be started again",
        PATIENCE,
        async || {
            let picture = picture(&url)?;
            let again = picture["nodes"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|node| {
                    node["name"] == nodes[0]["name"]
                        && node["alive"] == true
                        && node["pid"].as_u64() != Some(victim)
                });
            Ok(again.then_some(picture))
        },
    )
    .await?;

    kill_process(dev_pid, Signal::INT)?;
    let status = spawn_blocking(move || child.wait()).await??;
    ensure!(status.success(), "{status}");
    for node in after["nodes"].as_array().context("no nodes")? {
        let left = pid(node["pid"].as_u64().context("no pid")?)?;
        ensure!(
            test_kill_process(left).is_err(),
            "{} is left behind",
            node["name"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_by_name() -> Result<()> {
    let data = TempDir::new()?;
    let (base, ports) = port_arguments()?;
    let _taken = TcpListener::bind(("127.0.0.1", base))?;
    let mut command = dev(&ports, &data, &[])?;
    let output = spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && said.contains(&base.to_string()),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn children_end_when_dev_itself_is_killed() -> Result<()> {
    let data = TempDir::new()?;
    let (base, ports) = port_arguments()?;
    let mut child = dev(&ports, &data, &["--nodes", "1", "--gateways", "1"])?.spawn()?;
    let (mut child, _) =
        spawn_blocking(move || read_until(&mut child, "quorate send").map(|lines| (child, lines)))
            .await??;
    let picture = picture(&format!("tcp://127.0.0.1:{base}"))?;
    let node = pid(picture["nodes"][0]["pid"].as_u64().context("no pid")?)?;
    child.kill()?;
    spawn_blocking(move || child.wait()).await??;
    eventually("the storage node to end", PATIENCE, async || {
        Ok(test_kill_process(node).is_err().then_some(()))
    })
    .await
}
