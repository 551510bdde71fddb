//! Runs seeds: `sim --seed N [--trace]` one, `sim --seeds N [--from M]` many. `--planned`: with planned moves and no faults;
//! `--scenes`: with topics, transactions, schedules, dead letters, limits, groups and more in the workload; `--operated`: with
//! an operator who pauses, purges, moves, copies and browses; `--moved`, `--moved-topics`: with a queue, or a topic, that
//! moves from shard to shard.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal"
)]

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quorate_sim::cluster::{Cluster, Counts, Report};
use quorate_sim::trace::Mode;

/// What was asked for.
struct Arguments {
    first: u64,
    count: u64,
    threads: usize,
    mode: Mode,
    /// The option that chose what is run.
    kind: Option<String>,
    run: fn(u64, Mode) -> Report,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            eprintln!(
                "usage: sim --seed N [--trace | --trace-disks] | --seeds N [--from M] [--threads T] [--planned | --scenes | --operated | --moved | --moved-topics]"
            );
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let summary = run(&arguments);
    let seconds = began.elapsed().as_secs_f64();
    println!("{:#?}", summary.counts);
    println!(
        "{} seeds ({} with a crash or an election) in {seconds:.1} s, {:.1} seeds/s, {:.0} virtual s",
        summary.seeds,
        summary.eventful,
        f64::from(u32::try_from(summary.seeds).unwrap_or(u32::MAX)) / seconds,
        summary.virtual_seconds
    );
    for failed in &summary.failed {
        println!("FAILED {failed}");
    }
    if summary.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("{} of {} seeds failed", summary.failed.len(), summary.seeds);
        if let Some(kind) = &arguments.kind {
            println!("to replay, add {kind}");
        }
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Summary {
    counts: Counts,
    seeds: u64,
    eventful: u64,
    virtual_seconds: f64,
    failed: Vec<String>,
}

fn run(arguments: &Arguments) -> Summary {
    let summary = Mutex::new(Summary::default());
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first + arguments.count;
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let (run, mode) = (arguments.run, arguments.mode);
                    let result = std::panic::catch_unwind(AssertUnwindSafe(|| run(seed, mode)));
                    let mut summary = summary.lock().expect("no thread panics while it adds");
                    add(&mut summary, seed, result.ok());
                }
            });
        }
    });
    summary
        .into_inner()
        .expect("no thread panics while it adds")
}

fn add(summary: &mut Summary, seed: u64, report: Option<Report>) {
    summary.seeds += 1;
    let Some(report) = report else {
        summary
            .failed
            .push(format!("seed {seed}: a machine panicked"));
        return;
    };
    summary.counts.add(&report.counts);
    summary.eventful += u64::from(report.is_eventful);
    summary.virtual_seconds += std::time::Duration::from_micros(report.virtual_us).as_secs_f64();
    if !report.failures.is_empty() {
        summary.failed.push(report.to_string());
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        first: 1,
        count: 1,
        threads: 2,
        mode: Mode::Hash,
        kind: None,
        run: Cluster::run,
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a number"))?;
            value
                .parse::<u64>()
                .map_err(|error| format!("{word} {value}: {error}"))
        };
        if matches!(
            word.as_str(),
            "--planned" | "--scenes" | "--operated" | "--moved" | "--moved-topics"
        ) {
            arguments.kind = Some(word.clone());
        }
        match word.as_str() {
            "--seed" | "--from" => arguments.first = number()?,
            "--seeds" => arguments.count = number()?,
            "--threads" => arguments.threads = usize::try_from(number()?).unwrap_or(1).max(1),
            "--trace-disks" => arguments.mode = Mode::PrintAll,
            "--planned" => arguments.run = Cluster::run_planned,
            "--scenes" => arguments.run = Cluster::run_scenes,
            "--operated" => arguments.run = Cluster::run_operated,
            "--moved" => arguments.run = Cluster::run_moved,
            "--moved-topics" => arguments.run = Cluster::run_moved_topics,
            "--trace" => arguments.mode = Mode::Print,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(arguments)
}
