//! Where messages go: the four kinds, by their names.

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
