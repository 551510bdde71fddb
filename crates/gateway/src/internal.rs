//! Topics by which the gateways speak to each other. Whatever protocol a client speaks, it neither sends to them nor reads
//! them: here they are told from the others. That no wildcard stands for them, the leader of their shard sees to.

use quorate_message::{Destination, DestinationKind, DestinationName};

/// Whether a topic's name or pattern is one of them.
pub(crate) fn is_own(text: &str) -> bool {
    DestinationName::new(text).is_ok_and(|name| name.is_internal())
}

/// Refuses what is no client's business.
///
/// # Errors
/// Says so.
pub(crate) fn refuse(destination: &Destination) -> Result<(), String> {
    let is_topic = match destination.kind {
        DestinationKind::Topic => true,
        DestinationKind::Queue | DestinationKind::Subscription => false,
    };
    match is_topic && destination.name.is_internal() {
        true => Err(format!(
            "{destination} is the cluster's own; choose another name"
        )),
        false => Ok(()),
    }
}

/// The topic of this name.
pub(crate) fn topic(name: &str) -> Destination {
    let name = DestinationName::new(name).expect("names of our own are names");
    assert!(name.is_internal(), "it is kept from clients");
    Destination::topic(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_kept_from_the_topics_of_the_cluster() {
        let parsed = |text: &str| text.parse().expect("a destination");
        let refused = refuse(&parsed("topic://quorate.internal.neighbours"));
        assert!(refused.expect_err("refused").contains("quorate.internal"));
        assert!(is_own("quorate.internal.neighbours"));
        assert!(!is_own("quorate.internal.>") && !is_own("quorate.x"));
        for free in ["queue://quorate.internal.neighbours", "topic://quorate.x"] {
            assert_eq!(refuse(&parsed(free)), Ok(()), "{free}");
        }
    }
}
