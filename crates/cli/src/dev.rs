//! `quorate dev`: a whole cluster on this machine, as child processes, which all end with this one.

mod children;
mod plan;
mod ready;
mod store;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    arguments::{Common, DEFAULT_URL, Format},
    limits::{DEV_POLL, DEV_PROCESSES},
    output,
};
use children::Children;
use plan::{Plan, users_file};
use store::DevStore;

/// Marks a folder as one that `--fresh` may empty, and is locked while in use.
const MARK: &str = ".quorate-dev";

/// Flags of `quorate dev`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Dev {
    /// Storage nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(DEV_PROCESSES)))]
    nodes: u16,

    /// Gateways
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(DEV_PROCESSES)))]
    gateways: u16,

    /// Coordinators, of which one is active; more than one need a store that they share
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(DEV_PROCESSES)))]
    coordinators: u16,

    /// Coordination store: embedded, etcd://host:port,host:port,... or zookeeper://host:port,host:port,.../path
    #[arg(long, default_value = "embedded", value_name = "STORE")]
    store: DevStore,

    /// Shards, when the cluster is made
    #[arg(long, default_value_t = 8)]
    shards: u16,

    /// Folder for data and logs
    #[arg(long, default_value = "data/dev", value_name = "FOLDER")]
    data: PathBuf,

    /// Begin with no data: removes the folder's content
    #[arg(long)]
    fresh: bool,

    /// Leave a process that died as it is, to try failures
    #[arg(long)]
    no_restart: bool,

    /// First port of the gateways
    #[arg(long, default_value_t = 60001)]
    gateway_port: u16,

    /// First port of the gateways' health and metrics
    #[arg(long, default_value_t = 8161)]
    console_port: u16,

    /// First port of the storage nodes
    #[arg(long, default_value_t = 61601)]
    node_port: u16,

    /// First port of the storage nodes' health and metrics
    #[arg(long, default_value_t = 9101)]
    node_health_port: u16,

    /// First port of the coordinators
    #[arg(long, default_value_t = 62001)]
    coordinator_port: u16,

    /// First port of the coordinators' health and metrics
    #[arg(long, default_value_t = 9201)]
    coordinator_health_port: u16,
}

#[derive(Debug, Serialize)]
struct Running {
    url: String,
    data: PathBuf,
    processes: Vec<Process>,
}

#[derive(Debug, Serialize)]
struct Process {
    name: String,
    address: String,
    health: String,
    log: PathBuf,
}

pub(crate) async fn run(common: &Common, arguments: Dev) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let plan = Plan::new(&arguments)?;
    plan.check_ports()?;
    let _lock = prepare(&arguments.data, arguments.fresh)?;
    let data = arguments
        .data
        .canonicalize()
        .with_context(|| format!("find folder {}", arguments.data.display()))?;
    write_users(&data)?;
    let mut children = Children::new(plan.processes(&data)?);
    let served = tokio::select! {
        served = start(&mut children, &plan, &data) => served.map(|()| true),
        () = stop() => Ok(false),
    };
    let ended = match served {
        Ok(true) => {
            print(common, &plan, &data)?;
            tokio::select! {
                ended = watch(&mut children, !arguments.no_restart) => ended,
                () = stop() => Ok(()),
            }
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    tokio::select! {
        () = children.stop() => {}
        // Whoever asks twice does not want to wait; the children are killed as they are dropped.
        () = stop() => {}
    }
    ended
}

/// Creates the folder, locks it, and empties it if asked to.
fn prepare(data: &Path, fresh: bool) -> Result<File> {
    let mark = data.join(MARK);
    let doing = || format!("prepare folder {}", data.display());
    fs::create_dir_all(data).with_context(doing)?;
    let is_ours = mark.exists();
    let is_empty = fs::read_dir(data).with_context(doing)?.next().is_none();
    if !is_ours && !is_empty {
        bail!(
            "folder {} is not empty and was not made by `quorate dev`; choose another with --data",
            data.display()
        );
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&mark)
        .with_context(doing)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "folder {} is in use by another `quorate dev`; stop that, or choose another with --data",
            data.display()
        ),
        Err(TryLockError::Error(error)) => return Err(error).with_context(doing),
    }
    if fresh {
        for entry in fs::read_dir(data).with_context(doing)? {
            let path = entry.with_context(doing)?.path();
            if path == mark {
                continue;
            }
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(lock)
}

/// The user that ActiveMQ is shipped with, unless somebody wrote others there.
fn write_users(data: &Path) -> Result<()> {
    let path = users_file(data);
    if path.exists() {
        return Ok(());
    }
    fs::write(
        &path,
        "# Users of OpenWire: name=password\nsystem=manager\n",
    )
    .with_context(|| format!("write {}", path.display()))
}

/// Starts everything and waits until it serves.
async fn start(children: &mut Children, plan: &Plan, data: &Path) -> Result<()> {
    let bar = crate::progress::waiting("the cluster starts");
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    children.start()?;
    let result = tokio::select! {
        ready = ready::wait(plan) => ready,
        died = children.first_death() => Err(died),
    };
    bar.finish_and_clear();
    result.with_context(|| {
        format!(
            "the cluster did not come up; the logs are in {}",
            data.display()
        )
    })
}

/// Starts again what dies.
async fn watch(children: &mut Children, restart: bool) -> Result<()> {
    let mut look = tokio::time::interval(DEV_POLL);
    loop {
        look.tick().await;
        for line in children.look(restart)? {
            output::line(&line)?;
        }
    }
}

fn print(common: &Common, plan: &Plan, data: &Path) -> Result<()> {
    let running = Running {
        url: plan.url(),
        data: data.to_owned(),
        processes: plan
            .processes(data)?
            .into_iter()
            .map(|process| Process {
                name: process.name,
                address: process.address,
                health: process.health,
                log: process.log,
            })
            .collect(),
    };
    if common.output == Format::Json {
        return output::json(&running);
    }
    let rows: Vec<Vec<String>> = running
        .processes
        .iter()
        .map(|process| {
            vec![
                process.name.clone(),
                process.address.clone(),
                format!("http://{}", process.health),
                process.log.display().to_string(),
            ]
        })
        .collect();
    output::table(&["PROCESS", "ADDRESS", "HEALTH, METRICS", "LOG"], &rows)?;
    output::line(&format!("\ndata     {}", data.display()))?;
    output::line(&format!("clients  {}", running.url))?;
    let url = if running.url == DEFAULT_URL {
        String::new()
    } else {
        format!(" --url '{}'", running.url)
    };
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "quorate".to_owned());
    let program = if program.contains('/') {
        program
    } else {
        "quorate".to_owned()
    };
    output::line(&format!(
        "\nThe cluster serves. Ctrl-C stops it. In another terminal:\n\n  {program} send orders --message 'one apple'{url}\n  {program} receive orders{url}\n  {program} cluster{url}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_of_its_own_is_emptied_and_only_one_may_use_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("dev");
        let lock = prepare(&data, false).expect("a new folder");
        let error = prepare(&data, true).expect_err("in use");
        assert!(error.to_string().contains("in use"), "{error}");
        drop(lock);
        fs::create_dir(data.join("mq01")).expect("writable");
        fs::write(data.join("mq01.log"), "x").expect("writable");
        drop(prepare(&data, false).expect("its own folder"));
        assert!(data.join("mq01").exists());
        drop(prepare(&data, true).expect("its own folder"));
        assert!(!data.join("mq01").exists() && !data.join("mq01.log").exists());

        let strange = folder.path().join("strange");
        fs::create_dir(&strange).expect("writable");
        fs::write(strange.join("thesis"), "x").expect("writable");
        let error = prepare(&strange, true).expect_err("not its own");
        assert!(error.to_string().contains("--data"), "{error}");
        assert!(strange.join("thesis").exists());
    }
}
