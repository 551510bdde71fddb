//! Where messages go: the four kinds, by their names.

use std::fmt;

use super::structure::{choice, structure};

structure! {
    /// A queue; its name may be several, separated by commas.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct Queue = 100 {
        /// Its name, without a scheme.
        pub physical_name: String,
    }
}

structure! {
    /// A topic; its name may be a pattern, or several, separated by commas.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct Topic = 101 {
        /// Its name, without a scheme.
        pub physical_name: String,
    }
}

structure! {
    /// A queue that lives as long as the connection that made it.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct TempQueue = 102 {
        /// The connection's id, a colon, a number.
        pub physical_name: String,
    }
}

structure! {
    /// A topic that lives as long as the connection that made it.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct TempTopic = 103 {
        /// The connection's id, a colon, a number.
        pub physical_name: String,
    }
}

choice! {
    /// A destination.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub enum Destination {
        /// A queue.
        Queue(Queue),
        /// A topic.
        Topic(Topic),
        /// A queue of one connection.
        TempQueue(TempQueue),
        /// A topic of one connection.
        TempTopic(TempTopic),
    }
}

impl Destination {
    /// A queue of this name.
    #[must_use]
    pub fn queue(name: impl Into<String>) -> Self {
        let physical_name = name.into();
        Self::Queue(Queue { physical_name })
    }

    /// A topic of this name.
    #[must_use]
    pub fn topic(name: impl Into<String>) -> Self {
        let physical_name = name.into();
        Self::Topic(Topic { physical_name })
    }

    /// Whether it is a topic, of whatever duration.
    #[must_use]
    pub fn is_topic(&self) -> bool {
        match self {
            Self::Topic(_) | Self::TempTopic(_) => true,
            Self::Queue(_) | Self::TempQueue(_) => false,
        }
    }

    /// Whether it goes with the connection that made it.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::TempQueue(_) | Self::TempTopic(_) => true,
            Self::Queue(_) | Self::Topic(_) => false,
        }
    }

    /// Its name, without the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(queue) => &queue.physical_name,
            Self::Topic(topic) => &topic.physical_name,
            Self::TempQueue(queue) => &queue.physical_name,
            Self::TempTopic(topic) => &topic.physical_name,
        }
    }
}

/// As the client writes it: `queue://orders`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            Self::Queue(_) => "queue",
            Self::Topic(_) => "topic",
            Self::TempQueue(_) => "temp-queue",
            Self::TempTopic(_) => "temp-topic",
        };
        write!(f, "{scheme}://{}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_and_written_as_the_client_does() {
        let physical_name = || "c:1".to_owned();
        for (destination, is_topic, is_temporary, text) in [
            (Destination::queue("a"), false, false, "queue://a"),
            (Destination::topic("a"), true, false, "topic://a"),
            (
                Destination::TempQueue(TempQueue {
                    physical_name: physical_name(),
                }),
                false,
                true,
                "temp-queue://c:1",
            ),
            (
                Destination::TempTopic(TempTopic {
                    physical_name: physical_name(),
                }),
                true,
                true,
                "temp-topic://c:1",
            ),
        ] {
            assert_eq!(destination.is_topic(), is_topic);
            assert_eq!(destination.is_temporary(), is_temporary);
            assert_eq!(destination.to_string(), text);
        }
    }
}
