//! What must never be untrue of a broker, said once; tests and the simulation call it after every step they like.

use std::collections::BTreeSet;

use quorate_message::MessagePosition;

use crate::Broker;
use crate::dispatch::{Dispatcher, Holder, Lane};
use crate::limits::{CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX, IN_FLIGHT_MAX};
use crate::state::{QueueId, State, Turn};

/// Checks everything. Takes time in proportion to what the broker holds.
///
/// # Errors
/// What is untrue.
pub fn check(broker: &Broker) -> Result<(), String> {
    check_state(broker.state())?;
    match broker.dispatcher() {
        Some(dispatcher) => check_dispatcher(dispatcher, broker.state()),
        None => Ok(()),
    }
}

fn demand(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn check_state(state: &State) -> Result<(), String> {
    for (number, queue) in (0..).zip(state.queues()) {
        let settings = state.settings().rules().of(queue.settings_name());
        demand(*state.settings_of(QueueId(number)) == settings, || {
            format!(
                "queue {} goes by other settings than the rules say",
                queue.name()
            )
        })?;
        demand(queue.is_consistent(), || {
            format!("counts of queue {} disagree with its bitmap", queue.name())
        })?;
    }
    demand(state.outbox().is_consistent(), || {
        "counts of the outbox disagree with its items".to_owned()
    })?;
    demand(state.transactions().is_consistent(), || {
        "what is prepared does not add up".to_owned()
    })?;
    let restored = State::restore(&state.checkpoint()).map_err(|error| error.to_string())?;
    demand(restored.digest() == state.digest(), || {
        "a restored state has another digest".to_owned()
    })?;
    demand(restored.live() == state.live(), || {
        "live counts disagree with the queues".to_owned()
    })?;
    demand(restored.topics() == state.topics(), || {
        "what is derived of topics disagrees with their subscriptions".to_owned()
    })?;
    demand(restored.dedup().len() == state.dedup().len(), || {
        "windows were lost".to_owned()
    })
}

fn check_dispatcher(dispatcher: &Dispatcher, state: &State) -> Result<(), String> {
    let mut read_ahead = 0;
    let mut transient_bytes = 0;
    for lane in dispatcher.lanes() {
        check_lane(lane, state)?;
        read_ahead += lane.read_ahead;
        let sizes = lane
            .transient
            .messages
            .values()
            .map(|message| message.bytes.len() as u64);
        transient_bytes += sizes
            .map(|size| size + crate::limits::MESSAGE_OVERHEAD_BYTES)
            .sum::<u64>();
    }
    demand(read_ahead == dispatcher.read_ahead(), || {
        "bytes read ahead do not add up".to_owned()
    })?;
    demand(transient_bytes == dispatcher.transient_bytes(), || {
        "bytes of non-persistent messages do not add up".to_owned()
    })?;
    let fetching = dispatcher.lanes().iter().map(|lane| lane.fetching.len());
    demand(
        fetching.sum::<usize>() == dispatcher.fetching().len(),
        || "fetches do not add up".to_owned(),
    )?;
    check_nobodys(dispatcher)?;
    for (reference, consumer) in dispatcher.consumers().iter() {
        let lane = &dispatcher.lanes()[consumer.lane.place()];
        let holder = Holder::Consumer(reference);
        let held = lane
            .in_flight
            .values()
            .filter(|held| held.holder == holder)
            .count();
        demand(held == consumer.in_flight as usize, || {
            format!(
                "consumer {} holds {held}, counted {}",
                consumer.id, consumer.in_flight
            )
        })?;
        let credit = consumer.credit;
        demand(
            credit.messages <= CREDIT_MESSAGES_MAX
                && credit.bytes <= CREDIT_BYTES_MAX
                && consumer.in_flight <= IN_FLIGHT_MAX,
            || format!("consumer {} exceeds a bound", consumer.id),
        )?;
        let in_ring = lane
            .ring
            .iter()
            .filter(|other| **other == reference)
            .count();
        demand(
            in_ring == usize::from(consumer.is_in_ring) && consumer.is_in_ring == consumer.wants(),
            || format!("consumer {} is wrongly in or out of turn", consumer.id),
        )?;
    }
    Ok(())
}

/// What is in nobody's hands is counted where it is waited for.
fn check_nobodys(dispatcher: &Dispatcher) -> Result<(), String> {
    let (mut returning, mut leaving) = (0, 0);
    for lane in dispatcher.lanes() {
        for held in lane.in_flight.values() {
            match held.holder {
                Holder::Returning(_) => returning += 1,
                Holder::Leaving(_) => leaving += 1,
                Holder::Consumer(_) | Holder::Expiring | Holder::Skipped => {}
            }
        }
    }
    demand(returning == dispatcher.returns().open(), || {
        let open = dispatcher.returns().open();
        format!("{returning} messages are being returned, counted {open}")
    })?;
    let mut counted = 0;
    for (gateway, lane, position) in dispatcher.gateways().leaving() {
        counted += 1;
        let held = dispatcher.lanes()[lane.place()].in_flight.get(&position);
        let holder = held.map(|held| held.holder);
        demand(holder == Some(Holder::Leaving(gateway)), || {
            format!("{position} is not leaving by way of {gateway}")
        })?;
    }
    demand(leaving == counted, || {
        format!("{leaving} messages are leaving, counted {counted}")
    })
}

/// Every pending message is in exactly one place, and nothing else is anywhere.
fn check_lane(lane: &Lane, state: &State) -> Result<(), String> {
    let mut seen: BTreeSet<MessagePosition> = BTreeSet::new();
    let stored_in_flight = lane.in_flight.iter();
    let stored_in_flight = stored_in_flight
        .filter(|(position, _)| !position.is_transient())
        .map(|(position, held)| Turn::new(held.priority, *position));
    let places = stored_in_flight
        .chain(lane.ready.iter().map(|(turn, _)| *turn))
        .chain(lane.fetching.keys().copied())
        .chain(lane.back.iter().copied())
        .chain(lane.unreadable.iter().copied())
        .chain(parked(lane).filter(|turn| !turn.position().is_transient()));
    for turn in places {
        let position = turn.position();
        demand(seen.insert(position), || {
            format!("{position} is in two places")
        })?;
        let queue = lane.queue.map(|queue| state.queue(queue));
        let pending = queue.and_then(|queue| queue.turn_of(position));
        demand(pending == Some(turn), || {
            format!("{position} is not pending, or at another priority")
        })?;
    }
    if let Some(queue) = lane.queue {
        for turn in state.queue(queue).in_turn(Turn::default()) {
            let position = turn.position();
            let is_before = position < lane.cursor(turn.priority());
            demand(!is_before || seen.contains(&position), || {
                format!("{position} was passed and is nowhere")
            })?;
            let is_ahead = lane.is_ahead(turn.priority());
            demand(is_before || is_ahead || seen.contains(&position), || {
                format!("{position} is ahead of a lane that has caught up")
            })?;
        }
    }
    demand(
        lane.ready.iter().is_sorted_by(|(a, _), (b, _)| a < b),
        || "ready messages are out of order".to_owned(),
    )?;
    let routing = lane.routing.as_ref();
    demand(routing.is_none_or(|it| it.is_consistent()), || {
        "counts of what is parked do not add up".to_owned()
    })?;
    check_transient(lane)
}

fn parked(lane: &Lane) -> impl Iterator<Item = Turn> + '_ {
    let routing = lane.routing.iter();
    routing.flat_map(|routing| routing.parked().turns())
}

fn check_transient(lane: &Lane) -> Result<(), String> {
    let messages = &lane.transient.messages;
    for (position, message) in messages {
        let turn = Turn::new(message.priority, *position);
        let places = usize::from(lane.in_flight.contains_key(position))
            + usize::from(lane.transient.available.contains(&turn))
            + parked(lane).filter(|other| *other == turn).count();
        demand(places == 1, || format!("{position} is in {places} places"))?;
    }
    let mut available = lane.transient.available.iter();
    let mut in_flight = lane
        .in_flight
        .keys()
        .filter(|position| position.is_transient());
    demand(
        available.all(|turn| messages.contains_key(&turn.position()))
            && in_flight.all(|position| messages.contains_key(position)),
        || "a non-persistent message is somewhere without its bytes".to_owned(),
    )
}
