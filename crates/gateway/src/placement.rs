//! Where destinations live, as this gateway knows it, and the beginning of their moves.

use std::collections::BTreeMap;

use quorate_message::{Destination, DestinationName, hashed, root, slot};
use quorate_proto::v1;
use tonic::Status;

use crate::{nodes::Nodes, rules::Rules};

/// The slot map in short, all overrides, and the place of one destination unless its name is empty.
pub(crate) fn show(nodes: &Nodes, destination: &str) -> Result<v1::ShowPlacementResponse, Status> {
    let topology = nodes.topology()?;
    let overrides = nodes.overrides()?;
    let mut slots: BTreeMap<u32, u32> = BTreeMap::new();
    // Slots are given to shards in ranges.
    for range in topology.slots.chunk_by(|one, next| one == next) {
        let count = u32::try_from(range.len()).unwrap_or(u32::MAX);
        *slots.entry(range[0]).or_insert(0) += count;
    }
    let shards = topology.shards.iter().map(|shard| v1::ShardSlots {
        shard: shard.id,
        leader: shard.leader,
        slots: slots.get(&shard.id).copied().unwrap_or(0),
    });
    let shown = overrides.iter().map(|(name, place)| v1::PlacementOverride {
        name: name.as_str().to_owned(),
        shard: place.shard,
        moving_from: place.moving.map_or(0, |moving| moving.from),
    });
    let refused = overrides.refused().map(|(name, refused)| v1::RefusedMove {
        name: name.as_str().to_owned(),
        shard: refused.to,
        reason: refused.reason.clone(),
    });
    let destination = match destination {
        "" => None,
        text => Some(placed(nodes, &name_of(text)?)?),
    };
    Ok(v1::ShowPlacementResponse {
        shards: shards.collect(),
        overrides: shown.collect(),
        destination,
        refused_moves: refused.collect(),
    })
}

/// Has a name move to another shard, unless the one in which it lives says that it cannot.
pub(crate) async fn begin(
    nodes: &Nodes,
    rules: &Rules,
    request: &v1::MoveDestinationRequest,
) -> Result<v1::MoveDestinationResponse, Status> {
    let name = name_of(&request.destination)?;
    let from = nodes.place(&name)?.shard.id;
    let obstacle = nodes.check_move(&name).await?;
    if !obstacle.is_empty() {
        return Err(Status::failed_precondition(format!(
            "{name} cannot be moved: {obstacle}"
        )));
    }
    rules.move_name(&name, request.shard).await?;
    Ok(v1::MoveDestinationResponse { from })
}

/// The name in `orders`, `queue://orders` or `topic://prices`: a queue and a topic of one name live together.
fn name_of(text: &str) -> Result<DestinationName, Status> {
    let destination = text.parse::<Destination>();
    destination
        .map(|destination| destination.name)
        .map_err(|error| Status::invalid_argument(format!("destination {text:?}: {error}")))
}

fn placed(nodes: &Nodes, name: &DestinationName) -> Result<v1::PlacedDestination, Status> {
    let place = nodes.place(name)?;
    let overrides = nodes.overrides()?;
    let held = overrides.place(name);
    let slot = slot(name).0;
    let slot_shard = nodes.topology()?.slots.get(usize::from(slot)).copied();
    Ok(v1::PlacedDestination {
        name: name.as_str().to_owned(),
        shard: place.shard.id,
        leader: place.shard.leader,
        slot: u32::from(slot),
        slot_shard: slot_shard.unwrap_or(0),
        hashed: hashed(name).to_owned(),
        override_name: held.map_or_else(String::new, |_| root(name).to_owned()),
        moving_to: held
            .filter(|place| place.moving.is_some())
            .map_or(0, |place| place.shard),
    })
}
