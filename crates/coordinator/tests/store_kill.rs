//! The embedded store when its process is killed: what was answered is there, and the folder is free for the next one.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use quorate_coordinator::store::{Store, Swap, Swapped, embedded::EmbeddedStore};

const FOLDER: &str = "QUORATE_TEST_STORE_FOLDER";

/// Runs in a child process, started by the test below; does nothing otherwise.
#[tokio::test]
async fn child_that_writes() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let store = EmbeddedStore::open(folder.as_ref()).expect("open");
    store.campaign().await.expect("campaign");
    let mut version = store
        .read("counter")
        .await
        .expect("read")
        .map_or(0, |found| found.version);
    let mut output = std::io::stdout();
    loop {
        let swap = Swap {
            key: "counter".to_owned(),
            expected: version,
            value: (version + 1).to_string().into(),
        };
        let Ok(Swapped::Stored(new)) = store.compare_and_set(swap).await else {
            panic!("nobody else writes");
        };
        version = new;
        writeln!(output, "answered {version}").expect("the pipe works");
        output.flush().expect("the pipe works");
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut last = 0;
    for round in 0..5 {
        let mut child = Command::new(env::current_exe().expect("the test has a path"))
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test binary starts");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut lines = output.lines();
        let mut seen = 0;
        while seen < 20 + round * 7 {
            let line = lines.next().expect("the child goes on").expect("text");
            if let Some((_, number)) = line.split_once("answered ") {
                let number: u64 = number.parse().expect("a number");
                assert!(number > last, "round {round}: {number} after {last}");
                last = number;
                seen += 1;
            }
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        for line in lines.map_while(Result::ok) {
            if let Some((_, number)) = line.split_once("answered ") {
                last = number.trim().parse().unwrap_or(last);
            }
        }
    }
    let store = EmbeddedStore::open(folder.path()).expect("open");
    store.campaign().await.expect("the folder is free");
    let found = store.read("counter").await.expect("read").expect("there");
    assert!(found.version >= last, "{} after {last}", found.version);
    assert_eq!(found.value, found.version.to_string());
}
