//! Topics and subscriptions of the whole cluster, put together from what the leaders say of their shards.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{internal::v1 as wire, v1};
use tonic::Status;

use super::Admin;
use crate::internal;

impl Admin {
    pub(super) async fn topics(&self, prefix: String) -> Result<v1::ListTopicsResponse, Status> {
        let topology = self.nodes.topology()?;
        let answers = self
            .ask_all(&topology.nodes, |mut client| {
                let prefix = prefix.clone();
                async move { client.list_topics(wire::ListTopicsRequest { prefix }).await }
            })
            .await;
        let mut topics = BTreeMap::new();
        let mut answered = BTreeSet::new();
        for (_, answer) in answers {
            answered.extend(answer.shards);
            topics.extend(
                answer
                    .topics
                    .into_iter()
                    .map(|t| (t.name.clone(), topic(t))),
            );
        }
        let shards = topology.shards.iter().map(|shard| shard.id);
        Ok(v1::ListTopicsResponse {
            topics: topics.into_values().collect(),
            unanswered_shards: shards.filter(|shard| !answered.contains(shard)).collect(),
        })
    }

    /// A subscription with wildcards has a part in every shard: their counts are added up.
    pub(super) async fn subscriptions(&self) -> Result<v1::ListSubscriptionsResponse, Status> {
        let topology = self.nodes.topology()?;
        let answers = self
            .ask_all(&topology.nodes, |mut client| async move {
                let question = wire::ListSubscriptionsRequest {};
                client.list_subscriptions(question).await
            })
            .await;
        let mut subscriptions: BTreeMap<String, v1::Subscription> = BTreeMap::new();
        let mut answered = BTreeSet::new();
        for (_, answer) in answers {
            answered.extend(answer.shards);
            let parts = answer.subscriptions.into_iter();
            // What the gateways have for each other is nobody's application.
            for part in parts.filter(|part| !internal::is_own(&part.pattern)) {
                let counts = part.status.clone().unwrap_or_default();
                let whole = subscriptions.entry(counts.name.clone());
                let whole = whole.or_insert_with(|| subscription(part));
                whole.messages += counts.messages;
                whole.in_flight += counts.in_flight;
                whole.non_persistent += counts.non_persistent;
                whole.consumers = whole.consumers.max(counts.consumers);
            }
        }
        let shards = topology.shards.iter().map(|shard| shard.id);
        Ok(v1::ListSubscriptionsResponse {
            subscriptions: subscriptions.into_values().collect(),
            unanswered_shards: shards.filter(|shard| !answered.contains(shard)).collect(),
        })
    }
}

fn topic(status: wire::TopicStatus) -> v1::Topic {
    v1::Topic {
        name: status.name,
        shard: status.shard,
        published_total: status.published_total,
        kept: status.kept,
        subscriptions: status.subscriptions,
    }
}

fn subscription(part: wire::SubscriptionStatus) -> v1::Subscription {
    v1::Subscription {
        topic: part.pattern,
        client_id: part.client_id,
        subscription: part.subscription,
        durable: part.durable,
        shared: part.shared,
        selector: part.selector,
        messages: 0,
        in_flight: 0,
        consumers: 0,
        non_persistent: 0,
    }
}
