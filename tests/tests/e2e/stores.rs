//! What the tests of all coordination stores with servers share: the suites that each passes, and how a coordinator's
//! process meets a store that it must not use.

#![expect(
    clippy::print_stderr,
    reason = "each run tells which servers it ran against"
)]

use std::{cell::Cell, collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_coordinator::store::{
    OptionsError, Store, StoreError, StoreOptions, Swap, Swapped,
    conformance::{self, Place, faults::Servers},
    etcd::EtcdStore,
    zookeeper::ZookeeperStore,
};
use quorate_tests::{
    cluster::{free_ports, is_ready},
    ensemble::Ensemble,
    etcd::Etcd,
    eventually::eventually,
    process::Service,
    zookeeper::Zookeeper,
};
use tempfile::TempDir;

/// How long a start may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Servers with the store that is made for them.
pub(crate) trait Tested: Ensemble {
    type Store: Store;
    fn open(options: StoreOptions) -> Result<Self::Store, OptionsError>;
}

impl Tested for Etcd {
    type Store = EtcdStore;

    fn open(options: StoreOptions) -> Result<EtcdStore, OptionsError> {
        EtcdStore::new(options)
    }
}

impl Tested for Zookeeper {
    type Store = ZookeeperStore;

    fn open(options: StoreOptions) -> Result<ZookeeperStore, OptionsError> {
        ZookeeperStore::new(options)
    }
}

/// How a cluster of that name reaches the servers.
pub(crate) fn options(servers: &impl Ensemble, cluster: &str) -> StoreOptions {
    StoreOptions {
        endpoints: servers.endpoints(),
        path: format!("/quorate-state/{cluster}"),
        members_path: format!("/quorate/{cluster}"),
        session: Duration::from_secs(2),
        name: "co01".to_owned(),
        user: None,
        tls: None,
    }
}

pub(crate) fn swap(key: &str, expected: u64, value: &str) -> Swap {
    Swap {
        key: key.to_owned(),
        expected,
        value: value.to_owned().into(),
    }
}

/// One cluster's place in the servers.
struct Part<E> {
    servers: Arc<E>,
    cluster: String,
}

impl<E: Tested> Place for Part<E> {
    type Store = E::Store;

    fn handle(&self) -> E::Store {
        let options = options(&*self.servers, &self.cluster);
        E::open(options).expect("the addresses are addresses")
    }
}

impl<E: Tested> Servers for Part<E> {
    async fn kill_leader(&self) {
        let leader = self.servers.leader().await.expect("there is one");
        self.servers.kill(leader).expect("it runs");
    }

    async fn kill_all(&self) {
        self.servers.kill_all().expect("they run");
    }

    async fn start_all(&self) {
        self.servers.start_all().expect("they start");
    }

    async fn pause_leader(&self) {
        let leader = self.servers.leader().await.expect("there is one");
        self.servers.pause(leader).expect("it runs");
    }

    async fn pause_all(&self) {
        self.servers.pause_all().expect("they run");
    }
}

fn parts<E: Ensemble>(servers: &Arc<E>) -> impl FnMut() -> Part<E> {
    let count = Cell::new(0);
    let servers = Arc::clone(servers);
    move || {
        count.set(count.get() + 1);
        Part {
            servers: Arc::clone(&servers),
            cluster: format!("place{}", count.get()),
        }
    }
}

/// The conformance suite holds.
pub(crate) async fn conforms<E: Tested>() -> Result<()> {
    let servers = Arc::new(E::start(3).await?);
    eprintln!("{}", servers.describe().await?);
    conformance::run(parts(&servers)).await;
    Ok(())
}

/// The suite of faults holds.
pub(crate) async fn withstands<E: Tested>() -> Result<()> {
    let servers = Arc::new(E::start(3).await?);
    eprintln!("{}", servers.describe().await?);
    let report = |line| eprintln!("{line}");
    Box::pin(conformance::faults::run(parts(&servers), report)).await;
    Ok(())
}

/// A coordinator whose place was taken away behind its back, so that by its own clock it is active, changes nothing.
pub(crate) async fn a_deposed_one_changes_nothing<E: Tested>() -> Result<()> {
    let servers = E::start(1).await?;
    let old = E::open(options(&servers, "test"))?;
    old.campaign().await?;
    ensure!(old.compare_and_set(swap("a", 0, "old")).await? != Swapped::Conflict(0));
    servers.depose("test").await?;
    let new = E::open(options(&servers, "test"))?;
    new.campaign().await?;
    let late = old.compare_and_set(swap("b", 0, "late")).await;
    assert_eq!(late, Err(StoreError::NotActive));
    assert_eq!(new.read("b").await, Ok(None));
    let member = old.publish_member("mq01", Some("{}".into())).await;
    assert_eq!(member, Err(StoreError::NotActive));
    tokio::time::timeout(Duration::from_secs(1), old.lost())
        .await
        .context("it knows now")?;
    ensure!(matches!(
        new.compare_and_set(swap("b", 0, "new")).await?,
        Swapped::Stored(_)
    ));
    Ok(())
}

/// A coordinator's process alone, with a store and no nodes.
pub(crate) struct Lone {
    pub(crate) service: Service,
    health_port: u16,
}

impl Lone {
    /// Describes it; it is not started.
    pub(crate) fn new(folder: &Path, cluster: &str, settings: &[(&str, String)]) -> Result<Self> {
        let ports = free_ports(2)?;
        let mut keys = BTreeMap::from([
            ("QUORATE_CLUSTER".to_owned(), cluster.to_owned()),
            (
                "QUORATE_LISTEN".to_owned(),
                format!("127.0.0.1:{}", ports[0]),
            ),
            (
                "QUORATE_HEALTH_LISTEN".to_owned(),
                format!("127.0.0.1:{}", ports[1]),
            ),
            ("QUORATE_STORE_SESSION_MS".to_owned(), "2000".to_owned()),
        ]);
        let given = settings.iter();
        keys.extend(given.map(|(key, value)| (format!("QUORATE_{key}"), value.clone())));
        let name = format!("co-{cluster}-{}", ports[0]);
        Ok(Self {
            service: Service::new("quorate-coordinator", &name, folder, keys)?,
            health_port: ports[1],
        })
    }

    /// Starts it and waits until it is the active one.
    pub(crate) async fn serve(&mut self) -> Result<()> {
        self.service.start()?;
        eventually("an active coordinator", LIMIT, async || {
            Ok(is_ready(self.health_port).await.then_some(()))
        })
        .await
        .with_context(|| self.service.log())
    }

    /// Starts it, and waits until it ends by itself; what it logged.
    pub(crate) async fn refuses(&mut self) -> Result<String> {
        self.service.start()?;
        eventually("a coordinator to end", LIMIT, || {
            std::future::ready(Ok((!self.service.is_running()).then_some(())))
        })
        .await
        .with_context(|| self.service.log())?;
        Ok(self.service.log())
    }
}

/// The settings of a coordinator that uses the servers.
pub(crate) fn settings<E: Ensemble>(servers: &E) -> Vec<(&'static str, String)> {
    vec![
        ("STORE", E::STORE.to_owned()),
        ("STORE_ENDPOINTS", servers.endpoints().join(",")),
    ]
}

/// A coordinator of another cluster ends with what is wrong, whether the store's own one is active or gone.
pub(crate) async fn another_clusters_store_is_refused<E: Tested>() -> Result<()> {
    let servers = E::start(1).await?;
    let folder = TempDir::with_prefix("quorate-lone-")?;
    let mut settings = settings(&servers);
    settings.push(("STORE_PATH", "/quorate-state/shared".to_owned()));
    let mut own = Lone::new(folder.path(), "own", &settings)?;
    own.serve().await?;
    let refused = async || {
        let said = Lone::new(folder.path(), "other", &settings)?
            .refuses()
            .await?;
        ensure!(said.contains("belongs to cluster own"), "{said}");
        ensure!(said.contains("`store_path`"), "{said}");
        ensure!(!said.contains("panicked"), "{said}");
        anyhow::Ok(())
    };
    refused().await?;
    own.service.kill()?;
    refused().await?;
    own.serve().await
}
