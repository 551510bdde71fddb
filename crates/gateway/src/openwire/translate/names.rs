//! Names of destinations: as ActiveMQ's clients write them, and as the broker knows them.
//!
//! | ActiveMQ | here |
//! |---|---|
//! | queue `a.b` | `queue://a.b` |
//! | topic `a.b` | `topic://a.b` |
//! | temporary queue or topic `ID:host-1-1:1:3` | the queue or topic of that name: a connection's id, a colon, a number |
//! | composite `a,topic://b` | each of them; a part without a kind has that of the whole |
//! | `a.b?consumer.priority=3` | what stands behind `?` is the client's own business and dropped |
//! | consumer of `a.*`, `a.>` | a pattern |

use quorate_message::{
    Destination, DestinationError, DestinationKind, DestinationName, Pattern, PatternError,
    temporary_owner,
};
use quorate_wire::openwire;
use thiserror::Error;

use crate::{internal, limits::COMPOSITE_MAX};

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    /// First to.
    pub(crate) first: Destination,
    /// And to these, of a composite.
    pub(crate) also: Vec<Destination>,
}

/// What a consumer reads. A composite is several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// One queue.
    Queue(DestinationName),
    /// All queues whose names match.
    Queues(Pattern),
    /// One topic, or all whose names match.
    Topic(Pattern),
}

/// Why a name is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NameError {
    /// Nobody sends to it.
    #[error("destination {name:?}: {reason}")]
    Destination {
        /// As it was written.
        name: String,
        /// What is wrong.
        reason: DestinationError,
    },
    /// Nobody consumes from it.
    #[error("destination {name:?}: {reason}")]
    Pattern {
        /// As it was written.
        name: String,
        /// What is wrong.
        reason: PatternError,
    },
    /// It is no client's business.
    #[error("{0}")]
    Internal(String),
    /// Too many parts.
    #[error("destination names {count} queues and topics; at most {COMPOSITE_MAX} are allowed")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// The four kinds, with what ActiveMQ writes before a name of each. `topic://` and `queue://` end the longer ones, so the
/// order is of no matter: a prefix is at the beginning.
const SCHEMES: [(&str, Kind); 4] = [
    ("queue://", Kind::Queue),
    ("topic://", Kind::Topic),
    ("temp-queue://", Kind::TempQueue),
    ("temp-topic://", Kind::TempTopic),
];

/// A kind of destination, as clients tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Queue,
    Topic,
    TempQueue,
    TempTopic,
}

/// Bytes of a name that an error shows: enough to find it.
const SHOWN_BYTES: usize = 300;

/// Where a message sent to this destination goes.
///
/// # Errors
/// The first part that names no queue or topic; wildcards name none.
pub(crate) fn targets(destination: &openwire::Destination) -> Result<Targets, NameError> {
    let mut parts = parts(destination)?.into_iter().map(|(kind, name)| {
        let checked = DestinationName::new(name).map_err(|reason| NameError::Destination {
            name: shown(name),
            reason,
        });
        let destination = neutral(kind, checked?);
        match internal::refuse(&destination) {
            Ok(()) => Ok(destination),
            Err(reason) => Err(NameError::Internal(reason)),
        }
    });
    let first = parts.next().unwrap_or_else(|| {
        Err(NameError::Destination {
            name: shown(destination.name()),
            reason: DestinationError::Empty,
        })
    })?;
    let also = parts.collect::<Result<_, _>>()?;
    Ok(Targets { first, also })
}

/// What a consumer of this destination reads.
///
/// # Errors
/// The first part that is neither a name nor a pattern.
pub(crate) fn sources(destination: &openwire::Destination) -> Result<Vec<Source>, NameError> {
    let sources = parts(destination)?.into_iter().map(|(kind, name)| {
        let pattern = Pattern::new(name).map_err(|reason| NameError::Pattern {
            name: shown(name),
            reason,
        })?;
        Ok(match kind {
            Kind::Topic | Kind::TempTopic => Source::Topic(pattern),
            Kind::Queue | Kind::TempQueue => pattern
                .as_name()
                .map_or(Source::Queues(pattern), Source::Queue),
        })
    });
    let sources: Vec<Source> = sources.collect::<Result<_, NameError>>()?;
    if sources.is_empty() {
        return Err(NameError::Destination {
            name: shown(destination.name()),
            reason: DestinationError::Empty,
        });
    }
    Ok(sources)
}

/// The destination as clients know it: temporary ones by the form of their names.
pub(crate) fn destination_of(destination: &Destination) -> openwire::Destination {
    let name = destination.name.as_str();
    let is_temporary = is_temporary(name);
    let kind = match destination.kind {
        DestinationKind::Queue if is_temporary => Kind::TempQueue,
        DestinationKind::Topic if is_temporary => Kind::TempTopic,
        DestinationKind::Queue => Kind::Queue,
        DestinationKind::Topic | DestinationKind::Subscription => Kind::Topic,
    };
    made(kind, name)
}

/// The destination with its kind before its name: `temp-queue://ID:host-1-1:1:3`.
pub(crate) fn text(destination: &openwire::Destination) -> String {
    let kind = kind(destination);
    let schemes = SCHEMES.iter();
    let mut schemes = schemes.filter(|(_, other)| *other == kind);
    let scheme = schemes.next().map_or("", |(scheme, _)| scheme);
    format!("{scheme}{}", destination.name())
}

/// What [`text`] writes, or clients of other protocols do: a name alone is a queue's.
pub(super) fn from_text(text: &str) -> openwire::Destination {
    let (kind, name) = schemed(text).unwrap_or((Kind::Queue, text));
    made(kind, name)
}

/// Whether a name has the form that clients give their temporary destinations.
pub(crate) fn is_temporary(name: &str) -> bool {
    temporary_owner(name).is_some()
}

/// Whether a destination is several.
pub(super) fn is_composite(destination: &openwire::Destination) -> bool {
    destination.name().contains(',')
}

/// The parts of a destination, in order, without what is empty.
fn parts(destination: &openwire::Destination) -> Result<Vec<(Kind, &str)>, NameError> {
    let outer = kind(destination);
    let name = destination.name();
    let count = name.split(',').count();
    if count > COMPOSITE_MAX {
        return Err(NameError::TooMany { count });
    }
    let parts = name.split(',').map(|part| {
        let part = part.trim();
        let part = part.split_once('?').map_or(part, |(name, _)| name);
        schemed(part).unwrap_or((outer, part))
    });
    Ok(parts.filter(|(_, name)| !name.is_empty()).collect())
}

fn schemed(text: &str) -> Option<(Kind, &str)> {
    let mut schemes = SCHEMES.iter();
    schemes.find_map(|(scheme, kind)| Some((*kind, text.strip_prefix(scheme)?)))
}

fn kind(destination: &openwire::Destination) -> Kind {
    match destination {
        openwire::Destination::Queue(_) => Kind::Queue,
        openwire::Destination::Topic(_) => Kind::Topic,
        openwire::Destination::TempQueue(_) => Kind::TempQueue,
        openwire::Destination::TempTopic(_) => Kind::TempTopic,
    }
}

fn neutral(kind: Kind, name: DestinationName) -> Destination {
    match kind {
        Kind::Queue | Kind::TempQueue => Destination::queue(name),
        Kind::Topic | Kind::TempTopic => Destination::topic(name),
    }
}

fn made(kind: Kind, name: &str) -> openwire::Destination {
    let physical_name = name.to_owned();
    match kind {
        Kind::Queue => openwire::Queue { physical_name }.into(),
        Kind::Topic => openwire::Topic { physical_name }.into(),
        Kind::TempQueue => openwire::TempQueue { physical_name }.into(),
        Kind::TempTopic => openwire::TempTopic { physical_name }.into(),
    }
}

/// The beginning of a name, so that an error is no longer than a line or two.
fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(SHOWN_BYTES);
    name[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> openwire::Destination {
        made(Kind::Queue, name)
    }

    fn sent_to(destination: &openwire::Destination) -> Vec<String> {
        let Targets { first, also } = targets(destination).expect("it can be sent to");
        let all = std::iter::once(&first).chain(&also);
        all.map(Destination::to_string).collect()
    }

    #[test]
    fn a_message_goes_to_each_part_of_a_composite() {
        assert_eq!(sent_to(&queue("a")), ["queue://a"]);
        assert_eq!(
            sent_to(&queue("a, topic://b,queue://c?x=1,")),
            ["queue://a", "topic://b", "queue://c"]
        );
        assert_eq!(
            sent_to(&made(Kind::Topic, "a,b?selector=1,queue://c")),
            ["topic://a", "topic://b", "queue://c"]
        );
        assert_eq!(
            sent_to(&made(Kind::TempQueue, "ID:h-1-1:1:3")),
            ["queue://ID:h-1-1:1:3"]
        );
        assert_eq!(
            sent_to(&made(Kind::TempTopic, "ID:h-1-1:1:3")),
            ["topic://ID:h-1-1:1:3"]
        );
    }

    #[test]
    fn what_cannot_be_sent_to_is_named() {
        let refused = |name: &str| targets(&queue(name)).expect_err("refused").to_string();
        assert!(refused("").starts_with("destination \"\": destination name is empty"));
        assert!(refused(",").contains("is empty"));
        assert!(refused("a,b.*").starts_with("destination \"b.*\": "));
        assert!(refused("a,topic://quorate.internal.x").contains("is the cluster's own"));
        assert!(refused(&"x".repeat(1000)).len() < 500);
        assert_eq!(
            refused(&"a,".repeat(32)),
            "destination names 33 queues and topics; at most 32 are allowed"
        );
    }

    #[test]
    fn a_consumer_reads_names_and_patterns() {
        let name = |text| DestinationName::new(text).expect("a name");
        let pattern = |text| Pattern::new(text).expect("a pattern");
        assert_eq!(
            sources(&queue("a,b.>,topic://c.*?x=1")),
            Ok(vec![
                Source::Queue(name("a")),
                Source::Queues(pattern("b.>")),
                Source::Topic(pattern("c.*")),
            ])
        );
        assert!(sources(&queue("")).is_err());
        assert!(matches!(
            sources(&queue(">.a")),
            Err(NameError::Pattern { .. })
        ));
    }

    #[test]
    fn temporary_ones_are_known_by_their_form() {
        assert_eq!(temporary_owner("ID:host-1-1:1:3"), Some("ID:host-1-1:1"));
        for name in [
            "orders",
            "ID:host",
            "ID:3",
            "ID:host:x",
            "ID:host:",
            "orders:3",
        ] {
            assert!(!is_temporary(name), "{name}");
        }
        let known = |text: &str| destination_of(&text.parse().expect("a destination"));
        assert_eq!(known("queue://ID:h:1"), made(Kind::TempQueue, "ID:h:1"));
        assert_eq!(known("topic://ID:h:1"), made(Kind::TempTopic, "ID:h:1"));
        assert_eq!(known("topic://a"), made(Kind::Topic, "a"));
        assert_eq!(known("a"), queue("a"));
    }

    #[test]
    fn each_kind_comes_back_from_its_text() {
        for (scheme, kind) in SCHEMES {
            let destination = made(kind, "ID:h:1");
            assert_eq!(text(&destination), format!("{scheme}ID:h:1"));
            assert_eq!(from_text(&text(&destination)), destination);
        }
        assert_eq!(from_text("orders"), queue("orders"));
    }
}
