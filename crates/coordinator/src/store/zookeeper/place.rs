//! Where our nodes are in ZooKeeper, how its servers are reached, and how rows are read.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error, Permission, Stat};

use crate::{
    limits::{STORE_READS_AT_ONCE, STORE_WAIT_MS},
    store::{
        MEMBERS, OptionsError, StoreError, StoreOptions, Versioned,
        zookeeper::{
            failure::{Asked, bounded, is_disconnected, parts},
            security::Security,
        },
    },
};

/// How often one read is made while the connection breaks.
const TRIES: usize = 3;

/// Whoever made a node may do everything with it.
const OWNER: Acl = Acl::new_const(Permission::ALL, "auth", "");
/// Everybody may look at it.
const READER: Acl = Acl::new_const(Permission::READ, "world", "anyone");

/// The servers, and the paths of one cluster.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) options: StoreOptions,
    /// As the client takes them, with the path under which everything is.
    servers: String,
    chroot: String,
    security: Option<Security>,
}

/// A folder of nodes, and what the names in it mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    Rows,
    Members,
}

impl Folder {
    /// Where keys with this prefix are.
    pub(super) fn of(prefix: &str) -> Self {
        if prefix.starts_with(MEMBERS) {
            Self::Members
        } else {
            Self::Rows
        }
    }

    /// The key that a node's name stands for.
    pub(super) fn key(self, node: &str) -> Option<String> {
        match self {
            Self::Rows => Some(node.replace(':', "/")),
            Self::Members => member_name(node).map(|name| format!("{MEMBERS}{name}")),
        }
    }
}

/// The name of a member without the number that ZooKeeper put behind it.
pub(super) fn member_name(node: &str) -> Option<&str> {
    let (name, number) = node.rsplit_once('-')?;
    let is_number = number.len() >= 10 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(name)
}

/// A name that ZooKeeper takes as part of a path.
pub(super) fn clean(name: &str) -> String {
    let clean = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
        _ => '_',
    };
    name.chars().map(clean).collect()
}

impl Place {
    pub(super) fn new(options: StoreOptions) -> Result<Self, OptionsError> {
        let (addresses, chroot) = addresses(&options)?;
        let names: Vec<&str> = addresses.iter().map(|address| name_in(address)).collect();
        let security = Security::of(&options, &names)?;
        let scheme = if security.is_some() { "tcp+tls" } else { "tcp" };
        let servers: Vec<String> = addresses
            .iter()
            .map(|address| format!("{scheme}://{address}"))
            .collect();
        Ok(Self {
            servers: format!("{}{chroot}", servers.join(",")),
            options,
            chroot,
            security,
        })
    }

    pub(super) fn folder(&self, folder: Folder) -> String {
        match folder {
            Folder::Rows => format!("{}/rows", self.options.path),
            Folder::Members => self.options.members_path.clone(),
        }
    }

    pub(super) fn candidates(&self) -> String {
        format!("{}/candidates", self.options.path)
    }

    /// The node of a row.
    pub(super) fn row(&self, key: &str) -> Result<String, StoreError> {
        if key.contains(':') {
            return Err(StoreError::Broken(format!(
                "row {key}: a colon stands for a slash in ZooKeeper"
            )));
        }
        let name = key.replace('/', ":");
        Ok(format!("{}/{name}", self.folder(Folder::Rows)))
    }

    /// Turns an error of a call about `path` into one for the caller.
    pub(super) fn error(&self, path: &str, error: &Error) -> StoreError {
        let user = self.options.user.as_ref().map(|(user, _)| user.as_str());
        let asked = Asked {
            user,
            path,
            chroot: &self.chroot,
        };
        asked.error(error)
    }

    /// Opens a session. It ends when the last clone of the client is gone.
    pub(super) async fn connect(&self) -> Result<Client, StoreError> {
        let session = self.options.session;
        let connector = Client::connector()
            .with_session_timeout(session)
            // Silence of a server after which another one is taken: twice within a session.
            .with_connection_timeout(session / 3)
            .with_fail_eagerly();
        let connector = match &self.options.user {
            Some((user, password)) => {
                connector.with_auth("digest", format!("{user}:{password}").as_bytes())
            }
            None => connector,
        };
        let connector = match &self.security {
            Some(security) => security.secure(connector),
            None => connector,
        };
        let limit = Duration::from_millis(STORE_WAIT_MS);
        // The client's future is large.
        let opened = timeout(limit, Box::pin(connector.connect(&self.servers))).await;
        match opened {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(self.error(&self.options.path, &error)),
            Err(_) => Err(self.error(&self.options.path, &Error::Timeout)),
        }
    }

    /// What is said at the making of a node about who may use it.
    pub(super) fn rights(&self, is_public: bool) -> Acls<'static> {
        static PUBLIC: [Acl; 2] = [OWNER, READER];
        match (&self.options.user, is_public) {
            (None, _) => Acls::anyone_all(),
            (Some(_), false) => Acls::creator_all(),
            (Some(_), true) => Acls::new(&PUBLIC),
        }
    }

    /// Makes the folders that are not there.
    pub(super) async fn ensure(&self, client: &Client) -> Result<(), StoreError> {
        let folders = [
            (self.folder(Folder::Rows), false),
            (self.candidates(), false),
            (self.folder(Folder::Members), true),
        ];
        for (path, is_public) in folders {
            let ensured = bounded(async {
                // Asking needs no rights above it.
                if client.check_stat(&path).await?.is_some() {
                    return Ok(());
                }
                let options = CreateMode::Persistent.with_acls(self.rights(is_public));
                client.mkdir(&path, &options).await
            });
            ensured.await.map_err(|error| self.error(&path, &error))?;
        }
        Ok(())
    }

    /// Waits until a majority has agreed on everything before: what this client reads after it shows that. The answer
    /// to the returned future may come together with that of the read that is sent behind it.
    fn barrier(&self, client: &Client) -> Result<impl Future<Output = Result<(), Error>>, Error> {
        let mut barrier = client.new_multi_writer();
        barrier.add_check_version(&self.options.path, -1)?;
        let barrier = barrier.commit();
        Ok(async move {
            match barrier.await.map_err(parts) {
                // Nothing was ever written there: that was agreed on just the same.
                Ok(_) | Err((Some(_), Error::NoNode)) => Ok(()),
                Err((_, error)) => Err(error),
            }
        })
    }

    pub(super) async fn read(
        &self,
        client: &Client,
        key: &str,
    ) -> Result<Option<Versioned>, StoreError> {
        let path = self.row(key)?;
        let found = bounded(async {
            let mut tries = Tries::default();
            loop {
                match self.read_once(client, &path).await {
                    Err(error) if tries.again(&error) => {}
                    result => return result,
                }
            }
        });
        let found = found.await.map_err(|error| self.error(&path, &error))?;
        Ok(found.map(|found| versioned(key.to_owned(), found)))
    }

    async fn read_once(
        &self,
        client: &Client,
        path: &str,
    ) -> Result<Option<(Vec<u8>, Stat)>, Error> {
        // Both are sent at once; the connection keeps their order.
        let barrier = self.barrier(client)?;
        let data = client.get_data(path);
        barrier.await?;
        present(data.await)
    }

    /// Reads all keys with a prefix, in their order, each with the name of its node.
    pub(super) async fn find(
        &self,
        client: &Client,
        prefix: &str,
    ) -> Result<Vec<(String, Versioned)>, StoreError> {
        let path = self.folder(Folder::of(prefix));
        let wrong = |error| self.error(&path, &error);
        let named = bounded(async {
            let mut tries = Tries::default();
            loop {
                match self.names(client, prefix).await {
                    Err(error) if tries.again(&error) => {}
                    result => return result,
                }
            }
        });
        let named = named.await.map_err(wrong)?;
        let mut found = Vec::with_capacity(named.len());
        for some in named.chunks(STORE_READS_AT_ONCE) {
            let read = bounded(async {
                let mut tries = Tries::default();
                loop {
                    match read_each(client, &path, some).await {
                        Err(error) if tries.again(&error) => {}
                        result => return result,
                    }
                }
            });
            found.extend(read.await.map_err(wrong)?);
        }
        Ok(found)
    }

    /// The keys with a prefix in their order, each with the name of its node.
    async fn names(&self, client: &Client, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let folder = Folder::of(prefix);
        let path = self.folder(folder);
        let barrier = self.barrier(client)?;
        let children = client.list_children(&path);
        barrier.await?;
        let children = match children.await {
            Ok(children) => children,
            Err(Error::NoNode) => Vec::new(),
            Err(error) => return Err(error),
        };
        let keys = children
            .into_iter()
            .filter_map(|node| Some((folder.key(&node)?, node)))
            .filter(|(key, _)| key.starts_with(prefix));
        let mut keys: Vec<_> = keys.collect();
        keys.sort();
        Ok(keys)
    }
}

/// Counts how often a read is made.
#[derive(Default)]
struct Tries(usize);

impl Tries {
    /// Whether a read that failed like that is made once more.
    fn again(&mut self, error: &Error) -> bool {
        self.0 += 1;
        self.0 < TRIES && is_disconnected(error)
    }
}

/// Reads nodes, given with their keys. All are asked for before the first answer is waited for.
async fn read_each(
    client: &Client,
    folder: &str,
    nodes: &[(String, String)],
) -> Result<Vec<(String, Versioned)>, Error> {
    let mut sent = Vec::with_capacity(nodes.len());
    for (_, node) in nodes {
        sent.push(client.get_data(&format!("{folder}/{node}")));
    }
    let mut rows = Vec::with_capacity(sent.len());
    for ((key, node), data) in nodes.iter().zip(sent) {
        let data = present(data.await)?;
        rows.extend(data.map(|data| (node.clone(), versioned(key.clone(), data))));
    }
    Ok(rows)
}

/// What a node holds, if it is there.
pub(super) fn present(
    data: Result<(Vec<u8>, Stat), Error>,
) -> Result<Option<(Vec<u8>, Stat)>, Error> {
    match data {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn versioned(key: String, (data, stat): (Vec<u8>, Stat)) -> Versioned {
    Versioned {
        key,
        version: version(&stat),
        value: Bytes::from(data),
    }
}

/// A data version as ours, which begins at 1.
pub(super) fn version(stat: &Stat) -> u64 {
    u64::try_from(stat.version).map_or(0, |version| version + 1)
}

/// The name or number in "host:port".
fn name_in(address: &str) -> &str {
    let name = address.rsplit_once(':').map_or(address, |(name, _)| name);
    name.trim_start_matches('[').trim_end_matches(']')
}

/// "host:port" of each server, and the path at their end.
fn addresses(options: &StoreOptions) -> Result<(Vec<String>, String), OptionsError> {
    let wrong = |address: &str, reason: &str| OptionsError::Address {
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let Some((last, before)) = options.endpoints.split_last() else {
        return Err(wrong("(none)", "give at least one with `store_endpoints`"));
    };
    let (last, chroot) = match last.split_once('/') {
        Some((last, path)) => (last, format!("/{}", path.trim_end_matches('/'))),
        None => (last.as_str(), String::new()),
    };
    let chroot = if chroot == "/" { String::new() } else { chroot };
    if chroot.contains("//") {
        return Err(wrong(&chroot, "a path has no empty part"));
    }
    let mut addresses = Vec::new();
    for address in before.iter().map(String::as_str).chain([last]) {
        if address.contains('/') {
            return Err(wrong(
                address,
                "write host:port; only the last one may end with a path",
            ));
        }
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(wrong(address, "write it with its port, 2181 by default"));
        }
        addresses.push(address.to_owned());
    }
    Ok((addresses, chroot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoints: &[&str]) -> StoreOptions {
        StoreOptions {
            endpoints: endpoints.iter().map(|&text| text.to_owned()).collect(),
            path: "/quorate-state/test".to_owned(),
            members_path: "/quorate/test".to_owned(),
            session: Duration::from_secs(4),
            name: "co01".to_owned(),
            user: None,
            tls: None,
        }
    }

    #[test]
    fn addresses_may_end_with_a_path() {
        let read = |endpoints: &[&str]| {
            let place = Place::new(options(endpoints)).expect("addresses");
            (place.servers, place.chroot)
        };
        assert_eq!(
            read(&["a:1", "b:2/base/of all"]),
            (
                "tcp://a:1,tcp://b:2/base/of all".to_owned(),
                "/base/of all".to_owned()
            )
        );
        assert_eq!(read(&["a:1/"]), ("tcp://a:1".to_owned(), String::new()));
        for wrong in [&["a"][..], &["a:0"], &["a:1/x", "b:2"], &["a:1/x//y"], &[]] {
            assert!(Place::new(options(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_of_nodes_are_keys_again() {
        let place = Place::new(options(&["a:1"])).expect("addresses");
        let path = place.row("shards/12").expect("a key");
        assert_eq!(path, "/quorate-state/test/rows/shards:12");
        assert_eq!(Folder::Rows.key("shards:12").as_deref(), Some("shards/12"));
        assert!(place.row("a:b").is_err());
        let folder = Folder::of("members/");
        assert_eq!(
            folder.key("mq-01-0000000003").as_deref(),
            Some("members/mq-01")
        );
        assert_eq!(folder.key("somebody else's"), None);
        assert_eq!(clean("mq/01 ä"), "mq_01__");
    }
}
