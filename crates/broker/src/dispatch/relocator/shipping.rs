//! What goes out of a name that leaves, in its turn: the messages of its queues; those of its topic once each, with the
//! subscriptions that they are pending in; and what the topic keeps by itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use quorate_message::{BatchBuilder, DestinationKind, DestinationName, MessagePosition};

use super::Course;
use crate::Effect;
use crate::dispatch::Dispatcher;
use crate::limits::{RELOCATE_AHEAD, RELOCATE_PAGE, RELOCATE_TIMEOUT};
use crate::state::{QueueId, Stage, State, Turn};

/// A message that is to go, and when it is to be delivered there, in milliseconds since 1970; 0: at once.
type Next = (QueueId, MessagePosition, u64);

impl Dispatcher {
    /// How many messages of a name are stored here and in nobody's hands.
    pub(super) fn left_of(&self, name: &DestinationName, state: &State) -> u64 {
        let of_queue = |queue: QueueId| {
            let stored = state.queue(queue);
            let lane = self.by_queue.get(&queue).map(|id| &self.lanes[id.0]);
            let held = lane.map_or(0, |lane| {
                let held = lane.in_flight.keys();
                held.filter(|position| !position.is_transient()).count() as u64
            });
            stored.pending_count().saturating_sub(held) + stored.waiting_count()
        };
        state.household(name).into_iter().map(of_queue).sum()
    }

    /// Puts the next messages on their way, as far as there is room. True: none is left that nobody has, and what was put
    /// on its way is logged.
    pub(super) fn put_on_its_way(
        &mut self,
        now: u64,
        (name, course): (&DestinationName, &mut Course),
        state: &State,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let super::Proposed { messages, until } = &mut course.proposed;
        if *until <= now {
            // Not committed in time, or refused: again.
            messages.clear();
        }
        messages.retain(|(queue, position)| state.queue(*queue).holds(*position));
        if !messages.is_empty() {
            course.due = *until;
            return false;
        }
        if on_the_way(name, state) >= RELOCATE_AHEAD {
            course.due = now.saturating_add(RELOCATE_TIMEOUT);
            return false;
        }
        let next = self.next_to_ship(name, state);
        if next.is_empty() {
            return true;
        }
        let mut builder = BatchBuilder::persistent();
        for (queue, position, due_ms) in next {
            let (from, to) = (state.queue(queue).destination(), state.moves_to(queue));
            let added = builder.transfer_relocated(&from, &to, (position, due_ms));
            if added.is_err() {
                break;
            }
            messages.push((queue, position));
        }
        if let Some((_, shipped)) = &mut course.round {
            *shipped += messages.len() as u64;
        }
        effects.push(Effect::Propose {
            batch: builder.finish(),
        });
        *until = now.saturating_add(RELOCATE_TIMEOUT);
        course.due = *until;
        false
    }

    /// The next messages in their turn, those in somebody's hands left out; then what the topic keeps; those that wait for
    /// their time come last, with when that is.
    fn next_to_ship(&self, name: &DestinationName, state: &State) -> Vec<Next> {
        let mut next = Vec::new();
        let family = state.family(name);
        for queue in &family {
            if state.queue(*queue).kind() == DestinationKind::Topic {
                continue;
            }
            let room = RELOCATE_PAGE - next.len();
            let free = self.free_turns(*queue, state).take(room);
            next.extend(free.map(|turn| (*queue, turn.position(), 0)));
        }
        self.next_of_subscriptions(name, state, &mut next);
        if next.is_empty() {
            next_kept(&family, state, &mut next);
        }
        if !next.is_empty() {
            return next;
        }
        for queue in &family {
            let room = RELOCATE_PAGE - next.len();
            let waiting = state.queue(*queue).timing().page(None, room);
            let waiting = waiting.into_iter();
            next.extend(waiting.map(|waits| (*queue, waits.position, waits.due_ms)));
        }
        next
    }

    /// The messages of a place that nobody has, in their turn.
    fn free_turns<'a>(
        &'a self,
        queue: QueueId,
        state: &'a State,
    ) -> impl Iterator<Item = Turn> + 'a {
        let lane = self.by_queue.get(&queue).map(|id| &self.lanes[id.0]);
        let turns = state.queue(queue).in_turn(Turn::default());
        turns.filter(move |turn| {
            lane.is_none_or(|lane| !lane.in_flight.contains_key(&turn.position()))
        })
    }

    /// Those of all subscriptions to the topic, each message for all of them before the next one.
    fn next_of_subscriptions(&self, name: &DestinationName, state: &State, next: &mut Vec<Next>) {
        let subscriptions: Vec<QueueId> = state.subscriptions_to(name).collect();
        let turns = subscriptions.iter();
        let mut turns: Vec<_> = turns.map(|id| self.free_turns(*id, state)).collect();
        let firsts = turns.iter_mut().enumerate();
        let firsts = firsts.filter_map(|(at, turns)| Some(Reverse((turns.next()?, at))));
        let mut heap: BinaryHeap<_> = firsts.collect();
        while next.len() < RELOCATE_PAGE
            && let Some(Reverse((turn, at))) = heap.pop()
        {
            next.push((subscriptions[at], turn.position(), 0));
            let following = turns[at].next();
            heap.extend(following.map(|turn| Reverse((turn, at))));
        }
    }
}

/// What topics keep by themselves, in the order in which it came. The retained message goes when it can be replaced no
/// more.
fn next_kept(family: &[QueueId], state: &State, next: &mut Vec<Next>) {
    for topic in family {
        let stored = state.queue(*topic);
        if stored.kind() != DestinationKind::Topic {
            continue;
        }
        let stage = state.moved_at(*topic).map(|moved| moved.stage);
        let stays = match stage {
            Some(Stage::Cut) => None,
            Some(_) | None => state.topics().retained(*topic),
        };
        let first = stored.first_pending_from(MessagePosition::default());
        let kept = std::iter::successors(first, |at| stored.first_pending_from(at.next()));
        let room = RELOCATE_PAGE - next.len();
        let kept = kept.filter(|at| stays != Some(*at)).take(room);
        next.extend(kept.map(|at| (*topic, at, 0)));
    }
}

/// How many messages of a name are on their way.
pub(super) fn on_the_way(name: &DestinationName, state: &State) -> usize {
    let outbox = state.outbox();
    let targets = state.family(name).into_iter();
    let targets = targets.filter_map(|id| outbox.target_id(&state.queue(id).destination()));
    targets.map(|target| outbox.target(target).len()).sum()
}
