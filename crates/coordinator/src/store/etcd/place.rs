//! Where our keys are in etcd, and how they are read.

use std::sync::Arc;

use bytes::Bytes;
use etcd_client::GetOptions;

use crate::{
    limits::STORE_PAGE,
    store::{
        MEMBERS, OptionsError, StoreError, StoreOptions, Versioned,
        etcd::{
            endpoints::{Endpoints, Repeat},
            revision, version,
        },
    },
};

/// The servers, and the paths of one cluster.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) options: StoreOptions,
    pub(super) endpoints: Arc<Endpoints>,
}

impl Place {
    pub(super) fn new(options: StoreOptions) -> Result<Self, OptionsError> {
        let endpoints = Arc::new(Endpoints::new(&options)?);
        Ok(Self { options, endpoints })
    }

    /// The path of a row or member.
    pub(super) fn key(&self, key: &str) -> String {
        match key.strip_prefix(MEMBERS) {
            Some(name) => format!("{}/{name}", self.options.members_path),
            None => format!("{}/rows/{key}", self.options.path),
        }
    }

    /// The key of a path that was found under `prefix`.
    pub(super) fn name(&self, prefix: &str, path: &[u8]) -> Option<String> {
        let path = std::str::from_utf8(path).ok()?;
        if prefix.starts_with(MEMBERS) {
            let name = path.strip_prefix(&self.key(MEMBERS))?;
            return Some(format!("{MEMBERS}{name}"));
        }
        Some(path.strip_prefix(&self.key(""))?.to_owned())
    }

    /// The path of the key that says who is active.
    pub(super) fn active_key(&self) -> String {
        format!("{}/active", self.options.path)
    }

    /// Reads all keys with a prefix at one revision, page by page.
    pub(super) async fn find(&self, prefix: &str) -> Result<Vec<Versioned>, StoreError> {
        let first = self.key(prefix);
        let end = after_prefix(&first);
        let mut found = Vec::new();
        let mut at = 0;
        let mut from = first.into_bytes();
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(STORE_PAGE)
                .with_revision(at);
            let answer = self
                .endpoints
                .call(Repeat::Safe, |mut client| {
                    let (from, options) = (from.clone(), options.clone());
                    async move { client.get(from, Some(options)).await }
                })
                .await?;
            if at == 0 {
                at = revision(answer.header())?;
            }
            for kv in answer.kvs() {
                if let Some(key) = self.name(prefix, kv.key()) {
                    found.push(Versioned {
                        key,
                        version: version(kv.mod_revision()),
                        value: Bytes::copy_from_slice(kv.value()),
                    });
                }
            }
            match answer.kvs().last() {
                Some(last) if answer.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                Some(_) | None => return Ok(found),
            }
        }
    }
}

/// The first key after all that begin with `prefix`, which is text: its last byte is never 255.
fn after_prefix(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
