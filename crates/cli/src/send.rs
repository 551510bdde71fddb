//! `quorate send`: each line a message, every one confirmed before the command ends.

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use quorate_client::{
    Confirm, OutboundMessage, Producer, ProducerOptions, Schedule, Transaction, Transactions, Value,
};
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    lines::{self, Part},
    output, progress,
};

/// Flags of `quorate send`.
#[derive(Debug, clap::Args)]
pub(crate) struct Send {
    /// Where to: a queue's name, topic://NAME, or several of these with commas between
    destination: String,

    /// Send each line of this file; without --file and --message, of standard input
    #[arg(long, value_name = "FILE", conflicts_with = "message")]
    file: Option<PathBuf>,

    /// Send this text
    #[arg(long, short)]
    message: Option<String>,

    /// Send the --message so many times
    #[arg(long, requires = "message", default_value_t = 1)]
    count: u64,

    /// Send so many messages in each transaction: all of them or none
    #[arg(long, value_name = "MESSAGES", conflicts_with = "non_persistent")]
    transaction: Option<usize>,

    /// Keep the messages in the leader's memory only; they are lost in its crash
    #[arg(long)]
    non_persistent: bool,

    /// Let the topic keep the message for those who subscribe later; an empty one clears
    #[arg(long)]
    retain: bool,

    /// The group of the messages: all of a group go to one consumer, in order
    #[arg(long, default_value = "", hide_default_value = true)]
    group: String,

    /// A property of the messages, for selectors: a number, true or false, or text
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    property: Vec<(String, Value)>,
    /// Priority, 0 to 9; the higher is delivered first
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=9))]
    priority: Option<u32>,

    /// Messages that nobody took by then are of no use, for instance `30s` or `2h`
    #[arg(long, value_name = "TIME", value_parser = time)]
    ttl: Option<Duration>,

    /// Deliver so long after it is stored
    #[arg(long, value_name = "TIME", value_parser = time)]
    delay: Option<Duration>,

    /// Deliver again after each such time; takes --repeat
    #[arg(long, value_name = "TIME", value_parser = time, requires = "repeat")]
    period: Option<Duration>,

    /// Deliveries after the first, -1 for no end
    #[arg(long, allow_negative_numbers = true, requires = "period")]
    repeat: Option<i32>,

    /// Deliver whenever this matches, in UTC: "minute hour day month weekday"
    #[arg(long, conflicts_with_all = ["delay", "period"])]
    cron: Option<String>,
}

#[derive(Debug, Serialize)]
struct Sent {
    destination: String,
    confirmed: u64,
    bytes: u64,
    seconds: f64,
}

pub(crate) async fn run(common: &Common, arguments: Send) -> Result<()> {
    let client = connect(common).await?;
    let producer = client.producer(&ProducerOptions::default())?;
    let started = Instant::now();
    let mut sending = Sending {
        producer,
        transactions: match arguments.transaction {
            Some(0) => bail!("--transaction must be at least 1"),
            Some(size) => Some(Transacting::new(client.transactions()?, size)),
            None => None,
        },
        template: arguments.template(),
        destination: arguments.destination,
        ttl: arguments.ttl,
        unconfirmed: VecDeque::new(),
        confirmed: 0,
        bytes: 0,
        bar: ProgressBar::hidden(),
    };
    if let Some(text) = arguments.message {
        sending.bar = progress::bytes(Some(arguments.count * text.len() as u64));
        sending.repeat(&Bytes::from(text), arguments.count).await?;
    } else if let Some(path) = &arguments.file {
        let (parts, size) = lines::of_file(path)?;
        sending.bar = progress::bytes(size);
        sending.lines(parts).await?;
    } else {
        sending.bar = progress::bytes(None);
        sending.lines(lines::of_stdin()?).await?;
    }
    let sent = Sent {
        destination: sending.destination,
        confirmed: sending.confirmed,
        bytes: sending.bytes,
        seconds: started.elapsed().as_secs_f64(),
    };
    sending.bar.finish_and_clear();
    match common.output {
        Format::Json => output::json(&sent),
        Format::Text => output::line(&format!(
            "{} messages to {} confirmed in {:.2} s",
            sent.confirmed, sent.destination, sent.seconds
        )),
    }
}

/// `NAME=VALUE`: what reads as an integer, a number or a truth value is one.
fn property(text: &str) -> Result<(String, Value), String> {
    use quorate_client::value::Kind;
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write a property as NAME=VALUE")?;
    let kind = match value {
        "true" => Kind::Boolean(true),
        "false" => Kind::Boolean(false),
        _ => match (value.parse(), value.parse()) {
            (Ok(number), _) => Kind::Long(number),
            (Err(_), Ok(number)) => Kind::Double(number),
            (Err(_), Err(_)) => Kind::Text(value.to_owned()),
        },
    };
    Ok((name.to_owned(), Value { kind: Some(kind) }))
}

impl Send {
    /// The message without its body.
    fn template(&self) -> OutboundMessage {
        let mut template = OutboundMessage::bytes(self.destination.clone(), Bytes::new());
        template.non_persistent = self.non_persistent;
        template.retained = self.retain;
        template.message.priority = self.priority;
        template.message.group.clone_from(&self.group);
        template.message.properties = self.property.iter().cloned().collect();
        template.schedule = Schedule {
            delay: self.delay.unwrap_or_default(),
            period: self.period.unwrap_or_default(),
            repeat: self.repeat.unwrap_or_default(),
            cron: self.cron.clone().unwrap_or_default(),
        };
        template
    }
}

/// Messages that are sent in transactions.
struct Transacting {
    transactions: Transactions,
    size: usize,
    open: Option<Transaction>,
    bytes: u64,
}

impl Transacting {
    fn new(transactions: Transactions, size: usize) -> Self {
        Self {
            transactions,
            size,
            open: None,
            bytes: 0,
        }
    }
}

struct Sending {
    producer: Producer,
    transactions: Option<Transacting>,
    destination: String,
    /// All but the body.
    template: OutboundMessage,
    ttl: Option<Duration>,
    /// With the size of each.
    unconfirmed: VecDeque<(Confirm, u64)>,
    confirmed: u64,
    bytes: u64,
    bar: ProgressBar,
}

impl Sending {
    async fn repeat(&mut self, body: &Bytes, count: u64) -> Result<()> {
        for _ in 0..count {
            self.one(body.clone()).await?;
        }
        self.rest().await
    }

    async fn lines(&mut self, mut parts: Receiver<Result<Part>>) -> Result<()> {
        loop {
            // While nothing is read, confirms are taken: an error is told at once, and the bar moves.
            let part = match self.unconfirmed.front_mut() {
                None => parts.recv().await,
                Some((confirm, _)) => tokio::select! {
                    biased;
                    outcome = confirm => {
                        self.settled(outcome)?;
                        continue;
                    }
                    part = parts.recv() => part,
                },
            };
            let Some(part) = part else {
                return self.rest().await;
            };
            for line in part? {
                self.one(line).await?;
            }
        }
    }

    async fn one(&mut self, body: Bytes) -> Result<()> {
        let bytes = body.len() as u64;
        if self.transactions.is_some() {
            return self.transact(body).await;
        }
        let message = self.message(body)?;
        let confirm = self.producer.send(message).await;
        let confirm = confirm.with_context(|| self.failed())?;
        self.unconfirmed.push_back((confirm, bytes));
        // The window of the producer is the bound: whatever lies before it is confirmed.
        while self.unconfirmed.len() > ProducerOptions::default().window_messages {
            self.oldest().await?;
        }
        Ok(())
    }

    async fn rest(&mut self) -> Result<()> {
        self.commit().await?;
        while !self.unconfirmed.is_empty() {
            self.oldest().await?;
        }
        Ok(())
    }

    /// Adds a message to the transaction, and commits that when it has its size.
    async fn transact(&mut self, body: Bytes) -> Result<()> {
        let message = self.message(body.clone())?;
        let Some(transacting) = &mut self.transactions else {
            return Ok(());
        };
        transacting.bytes += body.len() as u64;
        let begun = &transacting.transactions;
        let transaction = transacting.open.get_or_insert_with(|| begun.begin());
        transaction.send(message)?;
        if transaction.len() >= transacting.size {
            self.commit().await?;
        }
        Ok(())
    }

    fn message(&self, body: Bytes) -> Result<OutboundMessage> {
        let mut message = self.template.clone();
        message.message.body = body;
        if let Some(ttl) = self.ttl {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let until = now.context("read the clock")?.saturating_add(ttl);
            message.message.expires_at_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        }
        Ok(message)
    }

    /// Commits what is begun.
    async fn commit(&mut self) -> Result<()> {
        let Some(transacting) = &mut self.transactions else {
            return Ok(());
        };
        if let Some(transaction) = transacting.open.take() {
            let messages = transaction.len() as u64;
            let bytes = std::mem::take(&mut transacting.bytes);
            let committed = transaction.commit().await;
            committed.with_context(|| self.failed())?;
            self.confirmed += messages;
            self.bytes += bytes;
            self.bar.set_position(self.bytes + self.confirmed);
        }
        Ok(())
    }

    async fn oldest(&mut self) -> Result<()> {
        if let Some((confirm, _)) = self.unconfirmed.front_mut() {
            let outcome = confirm.await;
            self.settled(outcome)?;
        }
        Ok(())
    }

    fn settled(&mut self, outcome: Result<(), quorate_client::Error>) -> Result<()> {
        outcome.with_context(|| self.failed())?;
        if let Some((_, bytes)) = self.unconfirmed.pop_front() {
            self.confirmed += 1;
            self.bytes += bytes;
            // The line's end is part of the file, and so of the bar.
            self.bar.set_position(self.bytes + self.confirmed);
        }
        Ok(())
    }

    fn failed(&self) -> String {
        format!(
            "send message {} to {} (all before it are confirmed)",
            self.confirmed + 1,
            self.destination
        )
    }
}

/// A number with `ms`, `s`, `m`, `h` or `d` behind it.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let millis = number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no time; write for instance 500ms, 30s, 5m, 2h or 1d"))
}
