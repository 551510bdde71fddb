//! A way to a server that a test can cut: while it is, what is sent waits, as on a network that is partitioned.

use std::io;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What is taken at a time.
const BUFFER_BYTES: usize = 16 * 1024;

/// A listener on the loopback interface that hands everything on. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    endpoint: String,
    is_cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A way to `target`, "host:port" with or without a scheme, which the way then has, too.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn to(target: &str) -> Result<Self> {
        let (scheme, target) = match target.split_once("://") {
            Some((scheme, target)) => (format!("{scheme}://"), target),
            None => (String::new(), target),
        };
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("listen for what is handed on")?;
        let endpoint = format!("{scheme}{}", listener.local_addr()?);
        let is_cut = watch::Sender::new(false);
        let task = tokio::spawn(serve(listener, target.to_owned(), is_cut.subscribe()));
        Ok(Self {
            endpoint,
            is_cut,
            task,
        })
    }

    /// A way to each of the targets.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn to_each(targets: &[String]) -> Result<Vec<Self>> {
        let mut proxies = Vec::with_capacity(targets.len());
        for target in targets {
            proxies.push(Self::to(target).await?);
        }
        Ok(proxies)
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Hands nothing on any more, until it is mended.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Hands on what waits, and all that comes.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, target: String, is_cut: watch::Receiver<bool>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(join(near, target.clone(), is_cut.clone()));
    }
}

async fn join(
    near: TcpStream,
    target: String,
    mut is_cut: watch::Receiver<bool>,
) -> io::Result<()> {
    until_mended(&mut is_cut).await;
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::try_join!(
        carry(near_read, far_write, is_cut.clone()),
        carry(far_read, near_write, is_cut),
    )?;
    Ok(())
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is_cut: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        until_mended(&mut is_cut).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// Waits while the way is cut. One whose owner is gone is cut for good.
async fn until_mended(is_cut: &mut watch::Receiver<bool>) {
    if is_cut.wait_for(|is_cut| !is_cut).await.is_err() {
        std::future::pending().await
    }
}
