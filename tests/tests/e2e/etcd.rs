//! The coordination store in a real etcd: the conformance suite, servers that fail, users and certificates.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_coordinator::store::{
    Store, StoreError, StoreOptions, Swap, Swapped, Tls,
    conformance::{self, Place, faults::Servers},
    etcd::EtcdStore,
};
use quorate_tests::{etcd::Etcd, eventually::eventually};
use tempfile::TempDir;

/// How long a start may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// One cluster's place in an etcd.
struct EtcdPlace {
    etcd: Arc<Etcd>,
    name: String,
}

fn options(etcd: &Etcd, name: &str) -> StoreOptions {
    StoreOptions {
        endpoints: etcd.endpoints(),
        path: format!("/quorate-state/{name}"),
        members_path: format!("/quorate/{name}"),
        session: Duration::from_secs(2),
        name: "co01".to_owned(),
        user: None,
        tls: None,
    }
}

impl Place for EtcdPlace {
    type Store = EtcdStore;

    fn handle(&self) -> EtcdStore {
        EtcdStore::new(options(&self.etcd, &self.name)).expect("the addresses are addresses")
    }
}

impl Servers for EtcdPlace {
    async fn kill_leader(&self) {
        let leader = self.etcd.leader().await.expect("there is one");
        self.etcd.kill(leader).expect("it runs");
    }

    async fn kill_all(&self) {
        self.etcd.kill_all().expect("they run");
    }

    async fn start_all(&self) {
        self.etcd.start_all().expect("they start");
    }

    async fn pause_leader(&self) {
        let leader = self.etcd.leader().await.expect("there is one");
        self.etcd.pause(leader).expect("it runs");
    }

    async fn pause_all(&self) {
        self.etcd.pause_all().expect("they run");
    }
}

fn places(etcd: &Arc<Etcd>) -> impl FnMut() -> EtcdPlace {
    let count = Cell::new(0);
    let etcd = Arc::clone(etcd);
    move || {
        count.set(count.get() + 1);
        EtcdPlace {
            etcd: Arc::clone(&etcd),
            name: format!("place{}", count.get()),
        }
    }
}

#[tokio::test]
async fn the_conformance_suite_holds_with_three_members() -> Result<()> {
    let etcd = Arc::new(Etcd::start(3).await?);
    eprintln!("{}", etcd.describe().await?);
    conformance::run(places(&etcd)).await;
    Ok(())
}

#[tokio::test]
async fn the_suite_of_faults_holds_with_three_members() -> Result<()> {
    let etcd = Arc::new(Etcd::start(3).await?);
    eprintln!("{}", etcd.describe().await?);
    Box::pin(conformance::faults::run(places(&etcd), |line| {
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
    let etcd = Etcd::start(1).await?;
    let old = EtcdStore::new(options(&etcd, "test"))?;
    old.campaign().await?;
    ensure!(old.compare_and_set(swap("a", 0, "old")).await? != Swapped::Conflict(0));
    // Its key is taken away behind its back: by its own clock it is active, as one that was paused would think.
    let mut client = etcd.client(None).await?;
    client.delete("/quorate-state/test/active", None).await?;
    let new = EtcdStore::new(options(&etcd, "test"))?;
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

#[tokio::test]
async fn a_watch_over_forgotten_history_shows_what_changed_or_ends() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let store = EtcdStore::new(options(&etcd, "test"))?;
    store.campaign().await?;
    store.compare_and_set(swap("w/a", 0, "1")).await?;
    let mut quiet = store.watch("w/").await?;
    assert_eq!(quiet.recv().await.context("the present")?.value, "1");
    // Much happens elsewhere, is forgotten, and the server is gone for a moment.
    let mut version = 0;
    for _ in 0..20 {
        let Swapped::Stored(new) = store.compare_and_set(swap("else", version, "x")).await? else {
            anyhow::bail!("a conflict without anybody else");
        };
        version = new;
    }
    let mut client = etcd.client(None).await?;
    client.compact(i64::try_from(version)?, None).await?;
    etcd.kill_all()?;
    etcd.start_all()?;
    etcd.leader().await?;
    while store.compare_and_set(swap("w/b", 0, "2")).await.is_err() {
        store.campaign().await.ok();
        if store.read("w/b").await.is_ok_and(|found| found.is_some()) {
            break;
        }
    }
    let limit = Duration::from_secs(20);
    match tokio::time::timeout(limit, quiet.recv()).await? {
        // It was back before the change.
        Some(row) => assert_eq!(
            (row.key.as_str(), row.value.as_ref()),
            ("w/b", b"2".as_slice())
        ),
        // It was not, and could not know what else there had been.
        None => {
            let mut anew = store.watch("w/").await?;
            for expected in ["1", "2"] {
                assert_eq!(anew.recv().await.context("the present")?.value, expected);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_sees_the_live_nodes_with_etcdctl() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let store = EtcdStore::new(options(&etcd, "test"))?;
    store.campaign().await?;
    for number in 1..=3 {
        let member = format!("{{\"id\":{number}}}");
        store
            .publish_member(&format!("mq0{number}"), Some(member.into()))
            .await?;
    }
    let said = etcd
        .shell(&["get", "--prefix", "--keys-only", "/quorate/test/"])
        .await?;
    let keys: Vec<&str> = said.split_whitespace().collect();
    let expected = ["mq01", "mq02", "mq03"].map(|name| format!("/quorate/test/{name}"));
    assert_eq!(keys, expected);
    let said = etcd
        .shell(&["get", "--print-value-only", "/quorate/test/mq02"])
        .await?;
    assert_eq!(said.trim(), "{\"id\":2}");
    store.resign().await;
    let said = etcd
        .shell(&["get", "--prefix", "--keys-only", "/quorate/test/"])
        .await?;
    assert_eq!(said.trim(), "");
    Ok(())
}

#[tokio::test]
async fn a_user_with_rights_on_its_prefixes_is_enough_and_others_are_told_what_is_wrong()
-> Result<()> {
    use etcd_client::{Permission, PermissionType};
    let etcd = Etcd::start(1).await?;
    let mut client = etcd.client(None).await?;
    client.user_add("root", "root-secret", None).await?;
    client.role_add("root").await?;
    client.user_grant_role("root", "root").await?;
    client.user_add("quorate", "secret", None).await?;
    client.role_add("quorate").await?;
    for prefix in ["/quorate-state/test/", "/quorate/test/"] {
        let permission = Permission::new(PermissionType::Readwrite, prefix).with_prefix();
        client.role_grant_permission("quorate", permission).await?;
    }
    client.user_grant_role("quorate", "quorate").await?;
    client.auth_enable().await?;

    let store = |user: Option<(&str, &str)>, name: &str| {
        let mut options = options(&etcd, name);
        options.user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        EtcdStore::new(options)
    };
    let good = store(Some(("quorate", "secret")), "test")?;
    good.campaign().await?;
    ensure!(matches!(
        good.compare_and_set(swap("a", 0, "x")).await?,
        Swapped::Stored(_)
    ));
    good.publish_member("mq01", Some("{}".into())).await?;
    good.resign().await;
    let refused = [
        (
            store(Some(("quorate", "wrong")), "test")?,
            "store_password_file",
        ),
        (store(None, "test")?, "store_user"),
        (
            store(Some(("quorate", "secret")), "other")?,
            "grant the role",
        ),
    ];
    for (store, remedy) in refused {
        let error = store.campaign().await.expect_err("refused");
        ensure!(!error.is_retryable(), "{error}");
        ensure!(error.to_string().contains(remedy), "{error}");
    }
    Ok(())
}

/// A certificate for the loopback address, signed by an authority of the test's own: authority, certificate and key.
fn certificates(folder: &Path) -> Result<[PathBuf; 3]> {
    let openssl = |arguments: &[&str]| -> Result<()> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .context("run openssl")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "openssl {arguments:?}: {said}");
        Ok(())
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let mut authority = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    authority.extend(key);
    authority.extend(["-keyout", "ca-key.pem", "-out", "ca.pem"]);
    openssl(&authority)?;
    let mut request = vec!["req", "-subj", "/CN=test"];
    request.extend(key);
    request.extend(["-keyout", "key.pem", "-out", "request.pem"]);
    openssl(&request)?;
    std::fs::write(
        folder.join("extensions"),
        "subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth, clientAuth\n",
    )?;
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "request.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca-key.pem",
        "-CAcreateserial",
        "-extfile",
        "extensions",
        "-out",
        "certificate.pem",
    ])?;
    Ok(["ca.pem", "certificate.pem", "key.pem"].map(|name| folder.join(name)))
}

#[tokio::test]
async fn certificates_of_both_sides_are_shown_and_checked() -> Result<()> {
    let folder = TempDir::with_prefix("quorate-etcd-tls-")?;
    let files = certificates(folder.path())?;
    let [authority, certificate, key] = files.clone().map(|file| file.display().to_string());
    let arguments = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &authority,
        "--cert-file",
        &certificate,
        "--key-file",
        &key,
    ];
    let arguments = arguments.map(str::to_owned).to_vec();
    let etcd = Etcd::start_with(1, "https", arguments).await?;
    let read = |file: &Path| std::fs::read_to_string(file);
    let tls = Tls {
        authority: read(&files[0])?,
        identity: Some((read(&files[1])?, read(&files[2])?)),
    };
    let with = |tls: Tls| {
        EtcdStore::new(StoreOptions {
            tls: Some(tls),
            ..options(&etcd, "test")
        })
    };
    let good = with(tls.clone())?;
    eventually("the campaign to be won", LIMIT, async || {
        good.campaign().await?;
        Ok(Some(()))
    })
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
    let stranger = TempDir::with_prefix("quorate-etcd-tls-")?;
    let strange = with(Tls {
        authority: read(&certificates(stranger.path())?[0])?,
        ..tls
    })?;
    let error = strange
        .read("a")
        .await
        .expect_err("signed by another authority");
    ensure!(error.to_string().contains("certificate"), "{error}");
    let without = EtcdStore::new(options(&etcd, "test")).expect_err("https without an authority");
    ensure!(without.to_string().contains("store_ca_file"), "{without}");
    Ok(())
}
