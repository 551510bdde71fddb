//! On what terms a consumer takes messages, and a message's group, as clients write them.

use std::collections::HashMap;

use quorate_message::{GROUP_PROPERTY, GROUP_SEQUENCE_PROPERTY};
use quorate_message::{Selector, Subscription, Terms};
use quorate_proto::v1;
use tonic::Status;

/// The terms of a consumer that is opened. A selector that is its subscription's is none of its own.
pub(crate) fn of(
    open: &v1::OpenConsumer,
    subscription: Option<&Subscription>,
) -> Result<Terms, Status> {
    let is_subscriptions = subscription.is_some_and(Subscription::has_selector);
    let priority = i8::try_from(open.priority).map_err(|_| {
        Status::invalid_argument(format!(
            "consumer priority {} is not one of -128 to 127",
            open.priority
        ))
    })?;
    Ok(Terms {
        selector: selector(&open.selector)?.filter(|_| !is_subscriptions),
        is_exclusive: open.exclusive,
        priority,
        ..Terms::default()
    })
}

/// A selector; none when the text is empty.
pub(crate) fn selector(text: &str) -> Result<Option<Selector>, Status> {
    Selector::parse_optional(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The properties of a message with its group among them. The fields go before properties of the same meaning.
pub(super) fn with_group(
    mut properties: HashMap<String, v1::Value>,
    group: String,
    sequence: i64,
) -> HashMap<String, v1::Value> {
    use v1::value::Kind;
    let mut set = |name: &str, kind: Kind| {
        let value = v1::Value { kind: Some(kind) };
        properties.insert(name.to_owned(), value);
    };
    if !group.is_empty() {
        set(GROUP_PROPERTY, Kind::Text(group));
    }
    if sequence != 0 {
        let kind = i32::try_from(sequence).map_or(Kind::Long(sequence), Kind::Int);
        set(GROUP_SEQUENCE_PROPERTY, kind);
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(open: &v1::OpenConsumer) -> String {
        of(open, None).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_refusal_names_the_place_and_the_remedy() {
        let open = v1::OpenConsumer {
            selector: "color == 'red'".to_owned(),
            ..v1::OpenConsumer::default()
        };
        assert_eq!(
            refusal(&open),
            "selector is invalid at column 8: expected a property, a literal or '(', found \"=\""
        );
        let open = v1::OpenConsumer {
            priority: 128,
            ..v1::OpenConsumer::default()
        };
        assert_eq!(
            refusal(&open),
            "consumer priority 128 is not one of -128 to 127"
        );
    }

    #[test]
    fn spaces_select_everything() {
        assert_eq!(selector("  ").unwrap(), None);
    }
}
