//! `quorate`, the command-line tool: sends, receives, looks, measures, and starts a cluster on this machine.
//!
//! One file per command; this one only reads the command line and turns the result into an exit code.

mod arguments;
mod bench;
mod browse;
mod cluster;
mod completions;
mod connection;
mod dead_letters;
mod dev;
mod exit;
mod limits;
mod lines;
mod node;
mod outbox;
mod output;
mod pause;
mod placement;
mod progress;
mod purge;
mod queues;
mod receive;
mod schedule;
mod send;
mod settings;
mod subscriptions;
mod topics;
mod transfer;

use std::{io, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&arguments.log)
        .with_context(|| {
            format!(
                "--log `{}` is no filter; write for instance `warn`",
                arguments.log
            )
        })?;
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let common = arguments.common;
    match arguments.command {
        Command::Send(send) => send::run(&common, send).await,
        Command::Receive(receive) => receive::run(&common, receive).await,
        Command::Browse(browse) => browse::run(&common, browse).await,
        Command::Queues(queues) => queues::run(&common, queues).await,
        Command::Topics(topics) => topics::run(&common, topics).await,
        Command::Subscriptions(asked) => subscriptions::run(&common, asked).await,
        Command::Schedule(command) => schedule::run(&common, command).await,
        Command::Purge(purge) => purge::run(&common, purge).await,
        Command::Move(transfer) => transfer::run_move(&common, transfer).await,
        Command::Copy(transfer) => transfer::run_copy(&common, transfer).await,
        Command::Outbox => outbox::run(&common).await,
        Command::DeadLetters(command) => dead_letters::run(&common, command).await,
        Command::Pause(pause) => pause::run(&common, pause, true).await,
        Command::Resume(pause) => pause::run(&common, pause, false).await,
        Command::Settings(settings) => settings::run(&common, settings).await,
        Command::Placement(placement) => placement::run(&common, placement).await,
        Command::Cluster(cluster) => cluster::run(&common, cluster).await,
        Command::Node(command) => node::run(&common, command).await,
        Command::Bench(bench) => Box::pin(bench::run(&common, bench)).await,
        Command::Dev(dev) => dev::run(&common, dev).await,
        Command::Completions(completions) => completions::run(&completions),
    }
}
