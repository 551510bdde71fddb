//! Durable subscriptions are deleted.

use quorate_wire::openwire::RemoveSubscriptionInfo;

use super::{Dialogue, Effect, answering::Asked, calls::Role, exception::Exception};
use crate::{session, source};

impl Dialogue {
    /// A client deletes one of its durable subscriptions, which nobody may be receiving from.
    pub(super) fn unsubscribe(
        &mut self,
        info: &RemoveSubscriptionInfo,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let client_id = info.client_id.as_deref().or(self.client_id.as_deref());
        let name = &info.subscription_name;
        let key = match source::named_key(client_id.unwrap_or_default(), name) {
            Ok(key) => key,
            Err(reason) => {
                return self.refuse(asked, Exception::destination(reason), effects);
            }
        };
        let mut present = self
            .names
            .values()
            .flatten()
            .filter_map(|s| self.consumers.get(s));
        if present.any(|consumer| consumer.source.name == key) {
            let exception = Exception::jms(format!(
                "durable subscription {name:?} has a consumer; close that one first"
            ));
            return self.refuse(asked, exception, effects);
        }
        let call = self.begin(Role::Unsubscribing(asked, name.clone()), effects);
        effects.push(Effect::Tell(session::Input::Unsubscribe { call, key }));
    }

    /// It is deleted, or was not there.
    pub(super) fn unsubscribed(&self, name: &str, removed: Option<u64>) -> Result<(), Exception> {
        match removed {
            Some(_) => Ok(()),
            None => Err(Exception::destination(format!(
                "client {:?} has no durable subscription {name:?}",
                self.client_id.as_deref().unwrap_or_default()
            ))),
        }
    }
}
