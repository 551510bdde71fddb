//! Exports and imports between embedded stores.

use bytes::Bytes;

use super::*;

const SHARD: &str = r#"{"format":1,"shard":1,"epoch":9,"claim":5,"leader":null,"voters":[],"next_voters":null,"learners":[]}"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary folder"))
    }

    fn config(&self, data: &str) -> Config {
        Config {
            cluster: "test".to_owned(),
            data: self.0.path().join(data),
            store_session_ms: 2_000,
            ..Config::default()
        }
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("export")
    }

    fn export(&self, is_retired: bool) -> Task {
        Task::Export {
            file: self.file(),
            is_retired,
        }
    }

    fn import(&self) -> Task {
        Task::Import { file: self.file() }
    }
}

/// Changes rows in a store as an active coordinator would, each from nothing.
async fn put(config: &Config, rows: &[(&str, &[u8])]) {
    let store = EmbeddedStore::open(&config.data).expect("open");
    store.campaign().await.expect("campaign");
    for (key, value) in rows {
        let swap = Swap {
            key: (*key).to_owned(),
            expected: 0,
            value: Bytes::copy_from_slice(value),
        };
        let outcome = store.compare_and_set(swap).await;
        assert!(
            matches!(outcome, Ok(Swapped::Stored(_))),
            "{key}: {outcome:?}"
        );
    }
    store.resign().await;
}

async fn rows(config: &Config) -> Vec<(String, Bytes)> {
    let store = EmbeddedStore::open(&config.data).expect("open");
    store.campaign().await.expect("campaign");
    let found = store.read_all("").await.expect("read");
    store.resign().await;
    let found = found.into_iter();
    found.map(|row| (row.key, row.value)).collect()
}

fn generation_text(closed: Option<Closed>) -> Vec<u8> {
    let row = Generation {
        cluster: "test".to_owned(),
        generation: 7,
        closed,
    };
    row.text().to_vec()
}

/// A cluster with one shard.
async fn cluster(config: &Config) {
    let generation = generation_text(None);
    put(
        config,
        &[(GENERATION, &generation), ("shards/1", SHARD.as_bytes())],
    )
    .await;
}

async fn refusal(config: &Config, task: &Task) -> String {
    let error = run(config, task).await.expect_err("refused");
    error.to_string()
}

#[tokio::test]
async fn what_is_exported_is_imported_byte_for_byte() {
    let folder = Folder::new();
    let (old, new) = (folder.config("old"), folder.config("new"));
    cluster(&old).await;
    run(&old, &folder.export(false)).await.expect("exported");
    run(&new, &folder.import()).await.expect("imported");
    assert_eq!(rows(&new).await, rows(&old).await);
    // Neither a file nor a store is written over.
    let said = refusal(&old, &folder.export(false)).await;
    assert!(said.contains("exists"), "{said}");
    // The very same once more is done already, as its answer may have been lost; but not when the store was used since.
    run(&new, &folder.import()).await.expect("imported before");
    put(&new, &[("shards/2", SHARD.as_bytes())]).await;
    let said = refusal(&new, &folder.import()).await;
    assert!(said.contains("not empty"), "{said}");
}

/// A store whose place is lost to a coordinator after all was read, or before the first change.
#[derive(Clone)]
struct Lapsing {
    store: EmbeddedStore,
    when: Lapse,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lapse {
    AfterReading,
    BeforeChanging,
}

impl Store for Lapsing {
    async fn campaign(&self) -> Result<(), StoreError> {
        self.store.campaign().await
    }
    async fn lost(&self) {
        self.store.lost().await;
    }
    async fn resign(&self) {
        self.store.resign().await;
    }
    async fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.store.read(key).await
    }
    async fn read_all(&self, prefix: &str) -> Result<Vec<Versioned>, StoreError> {
        let found = self.store.read_all(prefix).await?;
        if self.when == Lapse::AfterReading {
            let generation = self.store.read(GENERATION).await?;
            let (swap, _) = crate::rows::generation::next(generation.as_ref(), "test")
                .expect("a coordinator may be active");
            self.store.compare_and_set(swap).await?;
        }
        Ok(found)
    }
    async fn compare_and_set_many(&self, swaps: Vec<Swap>) -> Result<Vec<Swapped>, StoreError> {
        if self.when == Lapse::BeforeChanging {
            return Err(StoreError::NotActive);
        }
        self.store.compare_and_set_many(swaps).await
    }
    async fn publish_member(&self, name: &str, member: Option<Bytes>) -> Result<(), StoreError> {
        self.store.publish_member(name, member).await
    }
}

#[tokio::test]
async fn an_export_that_loses_its_place_leaves_no_file() {
    for (when, expected) in [
        (Lapse::AfterReading, "while it was read"),
        (Lapse::BeforeChanging, "not the active coordinator"),
    ] {
        let folder = Folder::new();
        let config = folder.config("old");
        cluster(&config).await;
        let store = EmbeddedStore::open(&config.data).expect("open");
        let lapsing = Lapsing { store, when };
        let task = folder.export(true);
        let error = on(&lapsing, &config, &task).await.expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!folder.file().exists());
        run(&config, &task).await.expect("the next try is exported");
    }
}

#[tokio::test]
async fn a_wrong_folder_is_refused_and_not_made() {
    let folder = Folder::new();
    let config = folder.config("wrong");
    for task in [folder.export(false), Task::Reinstate] {
        let said = refusal(&config, &task).await;
        assert!(said.contains("holds nothing of cluster test"), "{said}");
        assert!(!config.data.exists());
    }
}

#[tokio::test]
async fn nothing_is_moved_beside_an_active_coordinator() {
    let folder = Folder::new();
    let config = folder.config("old");
    cluster(&config).await;
    let active = EmbeddedStore::open(&config.data).expect("open");
    active.campaign().await.expect("campaign");
    let said = refusal(&config, &folder.export(false)).await;
    assert!(said.contains("stop all coordinators"), "{said}");
    assert!(!folder.file().exists());
    active.resign().await;
    run(&config, &folder.export(false)).await.expect("exported");
}

#[tokio::test]
async fn a_retired_store_is_used_by_nobody_until_it_is_reinstated() {
    let folder = Folder::new();
    let (old, new) = (folder.config("old"), folder.config("new"));
    cluster(&old).await;
    run(&old, &folder.export(true)).await.expect("exported");
    let held = rows(&old).await;
    assert_eq!(held[0].1, generation_text(Some(Closed::Retired)));
    let said = refusal(&old, &folder.import()).await;
    assert!(said.contains("reinstate"), "{said}");
    // The mark does not come with the file.
    run(&new, &folder.import()).await.expect("imported");
    assert_eq!(rows(&new).await[0].1, generation_text(None));
    run(&old, &Task::Reinstate).await.expect("reinstated");
    assert_eq!(rows(&old).await, rows(&new).await);
    let said = refusal(&old, &Task::Reinstate).await;
    assert!(said.contains("not retired"), "{said}");
}

#[tokio::test]
async fn an_import_that_was_cut_short_goes_on_with_the_same_file_only() {
    let folder = Folder::new();
    let (old, new) = (folder.config("old"), folder.config("new"));
    cluster(&old).await;
    let voters = SHARD.replace("\"shard\":1", "\"shard\":2");
    put(&old, &[("shards/2", voters.as_bytes())]).await;
    run(&old, &folder.export(false)).await.expect("exported");
    let text = fs::read_to_string(folder.file()).expect("readable");
    let (_, checksum) = Snapshot::parse(&text).expect("an export");
    // As if it had been killed after the first row.
    let begun = generation_text(Some(Closed::Importing(checksum)));
    put(
        &new,
        &[(GENERATION, &begun), ("shards/1", SHARD.as_bytes())],
    )
    .await;
    let said = refusal(&new, &Task::Reinstate).await;
    assert!(said.contains("not retired"), "{said}");
    run(&new, &folder.import()).await.expect("goes on");
    assert_eq!(rows(&new).await, rows(&old).await);

    let other = folder.config("other");
    let begun = generation_text(Some(Closed::Importing("crc32c:00000000".to_owned())));
    put(&other, &[(GENERATION, &begun)]).await;
    let said = refusal(&other, &folder.import()).await;
    assert!(said.contains("another file"), "{said}");
}

#[tokio::test]
async fn what_is_of_another_cluster_or_none_is_refused() {
    let folder = Folder::new();
    let (old, new) = (folder.config("old"), folder.config("new"));
    let said = refusal(&new, &folder.export(false)).await;
    assert!(said.contains("holds nothing of cluster test"), "{said}");
    cluster(&old).await;
    run(&old, &folder.export(false)).await.expect("exported");
    let other = Config {
        cluster: "other".to_owned(),
        ..new.clone()
    };
    let said = refusal(&other, &folder.import()).await;
    assert!(said.contains("is of cluster test"), "{said}");
    let other = Config {
        cluster: "other".to_owned(),
        ..old.clone()
    };
    fs::remove_file(folder.file()).expect("removable");
    let said = refusal(&other, &folder.export(false)).await;
    assert!(said.contains("belongs to cluster test"), "{said}");
    put(&new, &[("shards/1", SHARD.as_bytes())]).await;
    run(&old, &folder.export(false)).await.expect("exported");
    let said = refusal(&new, &folder.import()).await;
    assert!(said.contains("shards/1"), "{said}");
}

#[tokio::test]
async fn what_this_version_does_not_know_is_not_exported() {
    let folder = Folder::new();
    let config = folder.config("old");
    cluster(&config).await;
    put(&config, &[("wishes", b"{\"format\":1}")]).await;
    let said = refusal(&config, &folder.export(false)).await;
    assert!(said.contains("wishes"), "{said}");
    assert!(!folder.file().exists());
}
