//! Answers: exactly one to each command that requires it.

use super::{CommandId, Header, Structure};
use crate::openwire::structure::structure;
use crate::openwire::throwable::Throwable;

structure! {
    /// Done.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Response = 30 {
        /// Number and response.
        pub header: Header,
        /// The command that is answered.
        pub correlation_id: CommandId,
    }
}

structure! {
    /// Failed.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ExceptionResponse = 31 {
        /// Number and response.
        pub header: Header,
        /// The command that is answered.
        pub correlation_id: CommandId,
        /// Why.
        pub exception: Option<Throwable>,
    }
}

structure! {
    /// Done, with a structure.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct DataResponse = 32 {
        /// Number and response.
        pub header: Header,
        /// The command that is answered.
        pub correlation_id: CommandId,
        /// The structure.
        pub data: Option<Structure>,
    }
}

structure! {
    /// Done, with structures.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct DataArrayResponse = 33 {
        /// Number and response.
        pub header: Header,
        /// The command that is answered.
        pub correlation_id: CommandId,
        /// The structures; the client expects an array even where it is empty.
        pub data: Option<Vec<Structure>>,
    }
}

structure! {
    /// Done, with a number.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct IntegerResponse = 34 {
        /// Number and response.
        pub header: Header,
        /// The command that is answered.
        pub correlation_id: CommandId,
        /// The number.
        pub result: i32,
    }
}
