//! The coordination store in a real ZooKeeper: the conformance suite, servers that fail, users, and what operators see.

use std::{cell::Cell, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_coordinator::store::{
    Store, StoreError, StoreOptions, Swap, Swapped,
    conformance::{self, Place, faults::Servers},
    zookeeper::ZookeeperStore,
};
use quorate_tests::zookeeper::Zookeeper;
use zookeeper_client::{Acls, Client, CreateMode};

/// One cluster's place in a ZooKeeper.
struct ZookeeperPlace {
    zookeeper: Arc<Zookeeper>,
    name: String,
}

fn options(zookeeper: &Zookeeper, name: &str) -> StoreOptions {
    StoreOptions {
        endpoints: zookeeper.endpoints(),
        path: format!("/quorate-state/{name}"),
        members_path: format!("/quorate/{name}"),
        session: Duration::from_secs(2),
        name: "co01".to_owned(),
        user: None,
        tls: None,
    }
}

impl Place for ZookeeperPlace {
    type Store = ZookeeperStore;

    const SHOWS_EVERY_VALUE: bool = false;

    fn handle(&self) -> ZookeeperStore {
        let options = options(&self.zookeeper, &self.name);
        ZookeeperStore::new(options).expect("the addresses are addresses")
    }
}

impl Servers for ZookeeperPlace {
    async fn kill_leader(&self) {
        let leader = self.zookeeper.leader().await.expect("there is one");
        self.zookeeper.kill(leader).expect("it runs");
    }

    async fn kill_all(&self) {
        self.zookeeper.kill_all().expect("they run");
    }

    async fn start_all(&self) {
        self.zookeeper.start_all().expect("they start");
    }

    async fn pause_leader(&self) {
        let leader = self.zookeeper.leader().await.expect("there is one");
        self.zookeeper.pause(leader).expect("it runs");
    }

    async fn pause_all(&self) {
        self.zookeeper.pause_all().expect("they run");
    }
}

fn places(zookeeper: &Arc<Zookeeper>) -> impl FnMut() -> ZookeeperPlace {
    let count = Cell::new(0);
    let zookeeper = Arc::clone(zookeeper);
    move || {
        count.set(count.get() + 1);
        ZookeeperPlace {
            zookeeper: Arc::clone(&zookeeper),
            name: format!("place{}", count.get()),
        }
    }
}

#[tokio::test]
async fn the_conformance_suite_holds_with_three_members() -> Result<()> {
    let zookeeper = Arc::new(Zookeeper::start(3).await?);
    eprintln!("{}", zookeeper.describe().await?);
    conformance::run(places(&zookeeper)).await;
    Ok(())
}

#[tokio::test]
async fn the_suite_of_faults_holds_with_three_members() -> Result<()> {
    let zookeeper = Arc::new(Zookeeper::start(3).await?);
    eprintln!("{}", zookeeper.describe().await?);
    Box::pin(conformance::faults::run(places(&zookeeper), |line| {
        eprintln!("{line}");
    }))
    .await;
    Ok(())
}

fn swap(key: &str, expected: u64, value: &str) -> Swap {
    Swap {
        key: key.to_owned(),
        expected,
        value: value.to_owned().into(),
    }
}

#[tokio::test]
async fn a_coordinator_that_does_not_know_that_it_was_replaced_changes_nothing() -> Result<()> {
    let zookeeper = Zookeeper::start(1).await?;
    let old = ZookeeperStore::new(options(&zookeeper, "test"))?;
    old.campaign().await?;
    ensure!(old.compare_and_set(swap("a", 0, "old")).await? != Swapped::Conflict(0));
    // Its node is taken away behind its back: by its own clock it is active, as one that was paused would think.
    let folder = "/quorate-state/test/candidates";
    let client = Client::connect(&zookeeper.endpoints()[0]).await?;
    let candidates = client.list_children(folder).await?;
    assert_eq!(candidates.len(), 1, "{candidates:?}");
    let candidate = format!("{folder}/{}", candidates[0]);
    client.delete(&candidate, None).await?;
    let new = ZookeeperStore::new(options(&zookeeper, "test"))?;
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

/// The lines of `stat` or `get` that ZooKeeper's tool prints.
fn line<'a>(said: &'a str, name: &str) -> Result<&'a str> {
    let mut lines = said.lines();
    lines
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
        .with_context(|| format!("no {name} in {said}"))
}

#[tokio::test]
async fn an_operator_sees_the_live_nodes_with_zookeepers_tool() -> Result<()> {
    let zookeeper = Zookeeper::start(1).await?;
    let mut options = options(&zookeeper, "test");
    options.members_path = "/activemq/mqstores".to_owned();
    let store = ZookeeperStore::new(options)?;
    store.campaign().await?;
    for number in 1..=3 {
        let member = format!("{{\"id\":{number}}}");
        store
            .publish_member(&format!("mq0{number}"), Some(member.into()))
            .await?;
    }
    let said = zookeeper
        .shell(&[
            "get -s /activemq/mqstores",
            "get -s /activemq/mqstores/mq02-0000000001",
        ])
        .await?;
    assert_eq!(line(&said, "numChildren")?, "3", "{said}");
    let (_, child) = said.split_once("numChildren").context("two answers")?;
    ensure!(child.contains("{\"id\":2}"), "{said}");
    ensure!(line(child, "ephemeralOwner")? != "0x0", "{said}");
    store
        .publish_member("mq02", Some("{\"id\":2,\"weight\":7}".into()))
        .await?;
    store.publish_member("mq03", None).await?;
    let said = zookeeper
        .shell(&[
            "ls /activemq/mqstores",
            "get /activemq/mqstores/mq02-0000000001",
        ])
        .await?;
    ensure!(
        said.contains("[mq01-0000000000, mq02-0000000001]"),
        "{said}"
    );
    ensure!(said.contains("{\"id\":2,\"weight\":7}"), "{said}");
    store.resign().await;
    let said = zookeeper.shell(&["stat /activemq/mqstores"]).await?;
    assert_eq!(line(&said, "numChildren")?, "0", "{said}");
    Ok(())
}

#[tokio::test]
async fn what_a_human_must_change_is_told_with_the_remedy() -> Result<()> {
    let zookeeper = Zookeeper::start(1).await?;
    let store = |user: Option<(&str, &str)>, name: &str, chroot: &str| {
        let mut options = options(&zookeeper, name);
        options.user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        options.endpoints[0].push_str(chroot);
        ZookeeperStore::new(options)
    };
    let good = store(Some(("quorate", "secret")), "test", "")?;
    good.campaign().await?;
    ensure!(matches!(
        good.compare_and_set(swap("a", 0, "x")).await?,
        Swapped::Stored(_)
    ));
    good.publish_member("mq01", Some("{}".into())).await?;
    // Anybody may look at the nodes, and at nothing else.
    let client = Client::connect(&zookeeper.endpoints()[0]).await?;
    assert_eq!(client.list_children("/quorate/test").await?.len(), 1);
    ensure!(
        client
            .list_children("/quorate-state/test/rows")
            .await
            .is_err()
    );
    good.resign().await;
    let refused = [
        (
            store(Some(("quorate", "wrong")), "test", "")?,
            "store_password_file",
        ),
        (store(None, "test", "")?, "store_user"),
        (
            store(Some(("quorate", "secret")), "test", "/nowhere")?,
            "create /nowhere",
        ),
    ];
    for (store, remedy) in refused {
        let error = store.campaign().await.expect_err("refused");
        ensure!(!error.is_retryable(), "{error}");
        ensure!(error.to_string().contains(remedy), "{error}");
    }
    // Under a path of its own everything is below it.
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/base", b"", &options).await?;
    let based = store(None, "other", "/base")?;
    based.campaign().await?;
    based.publish_member("mq01", Some("{}".into())).await?;
    assert_eq!(client.list_children("/base/quorate/other").await?.len(), 1);
    Ok(())
}
