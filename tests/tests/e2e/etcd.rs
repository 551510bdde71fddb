//! The coordination store in a real etcd: the conformance suite, servers that fail, users and certificates.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use quorate_coordinator::store::{Store, StoreOptions, Swapped, Tls, etcd::EtcdStore};
use quorate_tests::{
    certificates::certificates, ensemble::Ensemble, etcd::Etcd, eventually::eventually,
};
use tempfile::TempDir;

use crate::stores::{self, options, swap};

/// How long a start may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_conformance_suite_holds_with_three_members() -> Result<()> {
    stores::conforms::<Etcd>().await
}

#[tokio::test]
async fn the_suite_of_faults_holds_with_three_members() -> Result<()> {
    stores::withstands::<Etcd>().await
}

#[tokio::test]
async fn a_coordinator_that_does_not_know_that_it_was_replaced_changes_nothing() -> Result<()> {
    stores::a_deposed_one_changes_nothing::<Etcd>().await
}

#[tokio::test]
async fn the_store_of_another_cluster_is_refused_at_the_start() -> Result<()> {
    stores::another_clusters_store_is_refused::<Etcd>().await
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
