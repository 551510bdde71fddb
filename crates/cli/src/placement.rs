//! `quorate placement`: where destinations live, and their moves to other shards.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use quorate_client::{PlacedDestination, RefusedMove, ShowPlacementResponse};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    limits::{MOVE_LOOK, MOVE_SEEN},
    output,
};

/// The commands of `quorate placement`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Placement {
    /// Shows which shard a destination lives in and why, or the slot map and all overrides
    Show(Show),
    /// Moves a queue or topic with all that it holds to another shard, while it is used
    Move(Move),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// A queue or a topic; without it: the slot map in short, names that live elsewhere, and moves that are under way
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    /// The queue or topic; queues of a virtual topic move with it
    name: String,

    /// The shard that it is to live in
    #[arg(long, value_name = "SHARD")]
    to: u32,

    /// Return once it is durable that it moves, and do not wait until it is there
    #[arg(long)]
    no_wait: bool,

    /// How long to wait until it is there, in seconds; it moves all the same
    #[arg(
        long,
        default_value_t = 600,
        value_name = "SECONDS",
        conflicts_with = "no_wait"
    )]
    wait: u64,
}

/// How far a move is, as a gateway shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    There,
    UnderWay,
    /// It lives in this shard and goes nowhere: the gateway has not heard of the move, or it is over and undone.
    Elsewhere(u32),
    /// Another move than the one that was begun is under way, to this shard.
    Another(u32),
}

impl Progress {
    fn of(placed: &PlacedDestination, to: u32) -> Self {
        match placed.moving_to {
            0 if placed.shard == to => Self::There,
            0 => Self::Elsewhere(placed.shard),
            shard if shard == to => Self::UnderWay,
            shard => Self::Another(shard),
        }
    }
}

#[derive(Debug, Serialize)]
struct Moved {
    name: String,
    from: u32,
    to: u32,
    is_there: bool,
}

#[derive(Debug, Serialize)]
struct Listing {
    shards: Vec<Shard>,
    overrides: Vec<Override>,
    refused_moves: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    name: String,
    to: u32,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: u32,
    leader: Option<u32>,
    slots: u32,
}

#[derive(Debug, Serialize)]
struct Override {
    name: String,
    shard: u32,
    moving_from: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Placed {
    name: String,
    shard: u32,
    leader: Option<u32>,
    why: &'static str,
    slot: u32,
    slot_shard: u32,
    hashed: String,
    override_name: Option<String>,
    moving_to: Option<u32>,
    /// Of the newest move, if it was refused.
    refused: Option<Refused>,
}

pub(crate) async fn run(common: &Common, command: Placement) -> Result<()> {
    match command {
        Placement::Show(show) => self::show(common, show).await,
        Placement::Move(arguments) => move_there(common, arguments).await,
    }
}

async fn show(common: &Common, arguments: Show) -> Result<()> {
    let client = connect(common).await?;
    let name = arguments.name.unwrap_or_default();
    let shown = client.placement(&name).await;
    let mut shown = shown.context("ask where destinations live")?;
    let placed = shown.destination.take().map(|placed| {
        let refused = take_refused(&mut shown, &placed.name);
        Placed {
            refused,
            ..Placed::from(placed)
        }
    });
    match (placed, common.output) {
        (Some(placed), Format::Json) => output::json(&placed),
        (Some(placed), Format::Text) => place(&placed),
        (None, Format::Json) => output::json(&Listing::from(shown)),
        (None, Format::Text) => listing(&Listing::from(shown)),
    }
}

async fn move_there(common: &Common, arguments: Move) -> Result<()> {
    let client = connect(common).await?;
    let Move {
        name,
        to,
        no_wait,
        wait,
    } = arguments;
    let begun = client.move_destination(&name, to).await;
    let from = begun.with_context(|| format!("move {name}"))?.from;
    if !no_wait {
        let look = async || {
            let shown = client.placement(&name).await;
            let shown = shown.with_context(|| {
                format!(
                    "ask how far {name} is; it moves all the same, `quorate placement show {name}`"
                )
            })?;
            let mut shown = shown;
            let placed = shown.destination.take().unwrap_or_default();
            let refused = take_refused(&mut shown, &placed.name);
            Ok((placed, refused.filter(|refused| refused.to == to)))
        };
        let patience = (MOVE_SEEN, Duration::from_secs(wait));
        wait_until_there((&name, to), patience, look).await?;
    }
    match common.output {
        Format::Json => output::json(&Moved {
            name,
            from,
            to,
            is_there: !no_wait,
        }),
        Format::Text if no_wait => {
            output::line(&format!("{name} moves from shard {from} to shard {to}"))
        }
        Format::Text => output::line(&format!("{name} moved from shard {from} to shard {to}")),
    }
}

/// Waits until a name is in the shard that it was sent to. It may also be refused or withdrawn, or be moved on by somebody
/// else: then no look shows the move, from the first of these times on. After the second one it is given up in any case.
async fn wait_until_there(
    (name, to): (&str, u32),
    (to_be_seen, in_all): (Duration, Duration),
    look: impl AsyncFn() -> Result<(PlacedDestination, Option<Refused>)>,
) -> Result<()> {
    let begin = Instant::now();
    let mut is_seen = false;
    loop {
        tokio::time::sleep(MOVE_LOOK).await;
        let (placed, refused) = look().await?;
        let progress = Progress::of(&placed, to);
        // A gateway may hear of the move a moment after its beginning.
        let is_known = is_seen || begin.elapsed() >= to_be_seen;
        match progress {
            Progress::There => return Ok(()),
            Progress::UnderWay => is_seen = true,
            Progress::Elsewhere(shard) if is_known && refused.is_some() => {
                let reason = refused.map(|refused| refused.reason).unwrap_or_default();
                bail!("{name} was not moved and stays in shard {shard}: {reason}")
            }
            Progress::Elsewhere(shard) if is_known => bail!(
                "{name} lives in shard {shard} and goes nowhere: the move was withdrawn or undone, and the coordinator's \
                 log says why; or the gateway hears no coordinator (`quorate cluster`)"
            ),
            Progress::Another(shard) if is_known => bail!(
                "{name} is being moved to shard {shard} by another command; `quorate placement show {name}` shows it"
            ),
            Progress::Elsewhere(_) | Progress::Another(_) => {}
        }
        if begin.elapsed() >= in_all {
            bail!(
                "{name} is not in shard {to} after {} s; it moves on all the same: `quorate placement show {name}` says \
                 how far it is, `quorate cluster` whether both shards have leaders",
                in_all.as_secs()
            );
        }
    }
}

fn place(placed: &Placed) -> Result<()> {
    let leader = placed.leader.map_or_else(
        || "nobody leads it".to_owned(),
        |node| format!("led by node {node}"),
    );
    output::line(&format!(
        "{} lives in shard {}, {leader}",
        placed.name, placed.shard
    ))?;
    let slot = format!(
        "`{}` hashes to slot {}, of shard {}",
        placed.hashed, placed.slot, placed.slot_shard
    );
    match &placed.override_name {
        Some(name) => output::line(&format!("there is an override for `{name}`; {slot}"))?,
        None => output::line(&slot)?,
    }
    if let Some(shard) = placed.moving_to {
        output::line(&format!("it is being moved to shard {shard}"))?;
    }
    match &placed.refused {
        Some(Refused { to, reason, .. }) => output::line(&format!(
            "it was not moved to shard {to} when that was asked for last: {reason}"
        )),
        None => Ok(()),
    }
}

/// Why the newest move of a name was refused, if it was.
fn take_refused(shown: &mut ShowPlacementResponse, name: &str) -> Option<Refused> {
    let mut refused = std::mem::take(&mut shown.refused_moves).into_iter();
    refused
        .find(|refused| refused.name == name)
        .map(Refused::from)
}

fn listing(listing: &Listing) -> Result<()> {
    let or_none = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let shards = listing.shards.iter().map(|shard| {
        vec![
            shard.shard.to_string(),
            or_none(shard.leader),
            shard.slots.to_string(),
        ]
    });
    output::table(&["SHARD", "LEADER", "SLOTS"], &shards.collect::<Vec<_>>())?;
    if listing.overrides.is_empty() {
        output::line("\nno overrides: every destination lives where its slot does")?;
    } else {
        overrides(listing)?;
    }
    if listing.refused_moves.is_empty() {
        return Ok(());
    }
    output::line("\nmoves that were refused:")?;
    let refused = listing.refused_moves.iter().map(|refused| {
        vec![
            refused.name.clone(),
            refused.to.to_string(),
            refused.reason.clone(),
        ]
    });
    output::table(&["NAME", "TO", "WHY"], &refused.collect::<Vec<_>>())
}

fn overrides(listing: &Listing) -> Result<()> {
    let or_none = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    output::line("")?;
    let overrides = listing.overrides.iter().map(|place| {
        vec![
            place.name.clone(),
            place.shard.to_string(),
            or_none(place.moving_from),
        ]
    });
    let head = ["NAME", "SHARD", "MOVING FROM"];
    output::table(&head, &overrides.collect::<Vec<_>>())
}

impl From<PlacedDestination> for Placed {
    fn from(placed: PlacedDestination) -> Self {
        let is_overridden = !placed.override_name.is_empty();
        Self {
            why: match (is_overridden, placed.hashed == placed.name) {
                (true, _) => "override",
                (false, true) => "slot",
                (false, false) if placed.name.contains(&format!("{{{}}}", placed.hashed)) => "tag",
                (false, false) => "virtual-topic",
            },
            name: placed.name,
            shard: placed.shard,
            leader: some(placed.leader),
            slot: placed.slot,
            slot_shard: placed.slot_shard,
            hashed: placed.hashed,
            override_name: is_overridden.then_some(placed.override_name),
            moving_to: some(placed.moving_to),
            refused: None,
        }
    }
}

impl From<ShowPlacementResponse> for Listing {
    fn from(shown: ShowPlacementResponse) -> Self {
        let shards = shown.shards.into_iter().map(|shard| Shard {
            shard: shard.shard,
            leader: some(shard.leader),
            slots: shard.slots,
        });
        let overrides = shown.overrides.into_iter().map(|place| Override {
            name: place.name,
            shard: place.shard,
            moving_from: some(place.moving_from),
        });
        Self {
            shards: shards.collect(),
            overrides: overrides.collect(),
            refused_moves: shown.refused_moves.into_iter().map(Refused::from).collect(),
        }
    }
}

impl From<RefusedMove> for Refused {
    fn from(refused: RefusedMove) -> Self {
        Self {
            name: refused.name,
            to: refused.shard,
            reason: refused.reason,
        }
    }
}

/// A number of a shard or a node, of which 0 is none.
fn some(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn at(shard: u32, moving_to: u32) -> PlacedDestination {
        PlacedDestination {
            shard,
            moving_to,
            ..PlacedDestination::default()
        }
    }

    /// What is said of a move to shard 2 that shows these pictures, the last one for ever.
    async fn waited(shown: &[(u32, u32)], refused: Option<&str>) -> Result<()> {
        let looks = AtomicUsize::new(0);
        let look = async || {
            let next = looks.fetch_add(1, Ordering::Relaxed);
            let (shard, moving_to) = shown[next.min(shown.len() - 1)];
            let refused = refused.map(|reason| Refused {
                name: "orders".to_owned(),
                to: 2,
                reason: reason.to_owned(),
            });
            Ok((at(shard, moving_to), refused))
        };
        let patience = (4 * MOVE_LOOK, 8 * MOVE_LOOK);
        let waiting = wait_until_there(("orders", 2), patience, look);
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        waited.expect("it does not wait for ever")
    }

    #[tokio::test]
    async fn a_move_is_waited_for_until_it_is_there_or_cannot_come_to_be() {
        waited(&[(1, 0), (1, 2), (1, 2), (2, 0)], None)
            .await
            .expect("it is there");
        for (shown, said) in [
            (&[(1, 0)][..], "goes nowhere"),
            (&[(1, 2), (1, 0)], "goes nowhere"),
            (&[(1, 2)], "it moves on all the same"),
            (&[(2, 3)], "moved to shard 3 by another command"),
        ] {
            let error = waited(shown, None).await.expect_err("it is not there");
            assert!(error.to_string().contains(said), "{error}");
        }
        let error = waited(&[(1, 2), (1, 0)], Some("the shard is full")).await;
        let error = error.expect_err("it was refused").to_string();
        assert!(error.ends_with("the shard is full"), "{error}");
    }
}
