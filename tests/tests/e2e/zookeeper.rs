//! The coordination store in a real ZooKeeper: the conformance suite, servers that fail, users, and what operators see.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut, Bytes};
use quorate_coordinator::store::{Store, Swapped, zookeeper::ZookeeperStore};
use quorate_tests::{ensemble::Ensemble, zookeeper::Zookeeper};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::stores::{self, Lone, options, swap};

#[tokio::test]
async fn the_conformance_suite_holds_with_three_members() -> Result<()> {
    stores::conforms::<Zookeeper>().await
}

#[tokio::test]
async fn the_suite_of_faults_holds_with_three_members() -> Result<()> {
    stores::withstands::<Zookeeper>().await
}

#[tokio::test]
async fn a_coordinator_that_does_not_know_that_it_was_replaced_changes_nothing() -> Result<()> {
    stores::a_deposed_one_changes_nothing::<Zookeeper>().await
}

#[tokio::test]
async fn the_store_of_another_cluster_is_refused_at_the_start() -> Result<()> {
    stores::another_clusters_store_is_refused::<Zookeeper>().await
}

#[tokio::test]
async fn a_path_that_is_not_there_is_told_at_the_start() -> Result<()> {
    let zookeeper = Zookeeper::start(1).await?;
    let folder = TempDir::with_prefix("quorate-lone-")?;
    let mut settings = stores::settings(&zookeeper);
    settings[1].1.push_str("/nowhere");
    let said = Lone::new(folder.path(), "test", &settings)?
        .refuses()
        .await?;
    ensure!(said.contains("create /nowhere"), "{said}");
    ensure!(said.contains("`store_endpoints`"), "{said}");
    Ok(())
}

#[tokio::test]
async fn servers_that_are_too_old_are_told_at_the_start() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let settings = [
        ("STORE", "zookeeper".to_owned()),
        ("STORE_ENDPOINTS", listener.local_addr()?.to_string()),
    ];
    let old = tokio::spawn(old_server(listener));
    let folder = TempDir::with_prefix("quorate-lone-")?;
    let said = Lone::new(folder.path(), "test", &settings)?
        .refuses()
        .await?;
    ensure!(said.contains("older than 3.6"), "{said}");
    ensure!(said.contains("upgrade them"), "{said}");
    old.abort();
    Ok(())
}

/// Answers as a ZooKeeper of before 3.6 would: all folders are there and empty, and what it does not know it does not
/// implement.
async fn old_server(listener: TcpListener) -> Result<()> {
    let mut sessions = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        sessions.spawn(old_session(stream));
    }
}

async fn old_session(mut stream: TcpStream) -> Result<()> {
    read_frame(&mut stream).await?;
    let mut opened = Vec::new();
    // Version, time-out, number and password of the session, and whether it may only read.
    opened.put_i32(0);
    opened.put_i32(4_000);
    opened.put_i64(7);
    opened.put_i32(16);
    opened.put_bytes(0, 16);
    opened.put_u8(0);
    write_frame(&mut stream, &opened).await?;
    loop {
        let mut request = read_frame(&mut stream).await?;
        let (number, operation) = (request.get_i32(), request.get_i32());
        let mut answer = Vec::new();
        answer.put_i32(number);
        answer.put_i64(1);
        answer_to(operation, &mut answer);
        write_frame(&mut stream, &answer).await?;
    }
}

/// The error number of an answer, and what comes behind it.
fn answer_to(operation: i32, answer: &mut Vec<u8>) {
    const OK: i32 = 0;
    const NO_NODE: i32 = -101;
    const UNIMPLEMENTED: i32 = -6;
    match operation {
        // exists: the state of a node without anything in it.
        3 => {
            answer.put_i32(OK);
            answer.put_bytes(0, 68);
        }
        // getData
        4 => answer.put_i32(NO_NODE),
        // ping, closeSession
        11 | -11 => answer.put_i32(OK),
        // multi, with one check in it that holds.
        14 => {
            answer.put_i32(OK);
            for (kind, is_last, error) in [(13, 0, OK), (-1, 1, -1)] {
                answer.put_i32(kind);
                answer.put_u8(is_last);
                answer.put_i32(error);
            }
        }
        _ => answer.put_i32(UNIMPLEMENTED),
    }
}

async fn read_frame(stream: &mut TcpStream) -> Result<Bytes> {
    let length = usize::try_from(stream.read_i32().await?)?;
    ensure!(length < 64 * 1024, "no request is that large");
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame.into())
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> Result<()> {
    stream.write_i32(i32::try_from(frame.len())?).await?;
    stream.write_all(frame).await?;
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

#[cfg(not(feature = "zookeeper-tls"))]
#[test]
fn a_build_without_tls_says_so() -> Result<()> {
    use quorate_coordinator::store::{StoreOptions, Tls};
    let options = StoreOptions {
        endpoints: vec!["127.0.0.1:2281".to_owned()],
        path: "/quorate-state/test".to_owned(),
        members_path: "/quorate/test".to_owned(),
        session: std::time::Duration::from_secs(2),
        name: "co01".to_owned(),
        user: None,
        tls: Some(Tls {
            authority: "some".to_owned(),
            identity: None,
        }),
    };
    let error = ZookeeperStore::new(options).expect_err("no TLS");
    ensure!(error.to_string().contains("zookeeper-tls"), "{error}");
    Ok(())
}

mod secured {
    use std::{fs, path::Path, time::Duration};

    use quorate_coordinator::store::{StoreOptions, Tls};
    use quorate_tests::{certificates::certificates, cluster::free_ports, eventually::eventually};

    use super::*;

    /// A server that takes sessions of those only who show a certificate that the authority signed, and its address.
    async fn server(folder: &Path) -> Result<(Zookeeper, String)> {
        let [authority, certificate, key] = certificates(folder)?;
        // The server wants its certificate and key in one file.
        let own = folder.join("server.pem");
        let both = fs::read_to_string(certificate)? + &fs::read_to_string(key)?;
        fs::write(&own, both)?;
        let port = free_ports(1)?[0];
        let settings = [
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
            format!("secureClientPort={port}"),
            "secureClientPortAddress=127.0.0.1".to_owned(),
            "ssl.keyStore.type=PEM".to_owned(),
            format!("ssl.keyStore.location={}", own.display()),
            "ssl.trustStore.type=PEM".to_owned(),
            format!("ssl.trustStore.location={}", authority.display()),
            "ssl.clientAuth=need".to_owned(),
        ];
        let zookeeper = Zookeeper::start_with(1, settings.to_vec()).await?;
        Ok((zookeeper, format!("127.0.0.1:{port}")))
    }

    #[tokio::test]
    #[cfg_attr(not(feature = "zookeeper-tls"), ignore = "make test-zookeeper-tls")]
    async fn certificates_of_both_sides_are_shown_and_checked() -> Result<()> {
        let folder = TempDir::with_prefix("quorate-zookeeper-tls-")?;
        let (zookeeper, address) = server(folder.path()).await?;
        eprintln!("{}, with TLS", zookeeper.describe().await?);
        let read = |name: &str| fs::read_to_string(folder.path().join(name));
        let tls = Tls {
            authority: read("ca.pem")?,
            identity: Some((read("certificate.pem")?, read("key.pem")?)),
        };
        let with = |tls: Tls| {
            ZookeeperStore::new(StoreOptions {
                endpoints: vec![address.clone()],
                tls: Some(tls),
                ..options(&zookeeper, "test")
            })
        };
        let good = with(tls.clone())?;
        eventually(
            "the campaign to be won",
            Duration::from_secs(30),
            async || {
                good.campaign().await?;
                Ok(Some(()))
            },
        )
        .await?;
        ensure!(matches!(
            good.compare_and_set(swap("a", 0, "x")).await?,
            Swapped::Stored(_)
        ));
        let bare = with(Tls {
            identity: None,
            ..tls.clone()
        })?;
        let error = bare.read("a").await.expect_err("no certificate");
        ensure!(error.is_retryable(), "{error}");
        let stranger = TempDir::with_prefix("quorate-zookeeper-tls-")?;
        let [other, ..] = certificates(stranger.path())?;
        let strange = with(Tls {
            authority: fs::read_to_string(other)?,
            ..tls.clone()
        })?;
        let error = strange.read("a").await.expect_err("another authority");
        ensure!(error.is_retryable(), "{error}");
        let broken = with(Tls {
            authority: "no certificate".to_owned(),
            ..tls
        });
        ensure!(broken.is_err(), "an authority that is none");
        Ok(())
    }

    #[tokio::test]
    #[cfg_attr(not(feature = "zookeeper-tls"), ignore = "make test-zookeeper-tls")]
    async fn a_coordinator_is_told_by_its_keys() -> Result<()> {
        let folder = TempDir::with_prefix("quorate-zookeeper-tls-")?;
        let (_zookeeper, address) = server(folder.path()).await?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let settings = [
            ("STORE", "zookeeper".to_owned()),
            ("STORE_ENDPOINTS", address),
            ("STORE_CA_FILE", path("ca.pem")),
            ("STORE_CERTIFICATE_FILE", path("certificate.pem")),
            ("STORE_KEY_FILE", path("key.pem")),
        ];
        Lone::new(folder.path(), "test", &settings)?.serve().await
    }
}
