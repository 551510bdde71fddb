//! The port that clients connect to. It faces strangers: their number is bounded, one that connects and says nothing is
//! let go, and what a connection speaks is told by its first bytes.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use quorate_service::prometheus_client::metrics::gauge::Gauge;
use quorate_wire::{DETECTION_BYTES_MAX, Detection, detect};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

use crate::limits::{ACCEPT_PAUSE, FIRST_BYTES_TIMEOUT};

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was read to tell the protocol.
    first: Bytes,
    pub(crate) peer: SocketAddr,
    /// What the port serves by which it came.
    pub(crate) port: Serves,
    _place: Place,
}

/// A place among the connections that are allowed.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    gauge: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Where connections go, by what they speak.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) grpc: mpsc::Sender<io::Result<Connection>>,
    pub(crate) openwire: mpsc::Sender<Connection>,
}

/// What a port serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    Everything,
    OpenWire,
}

/// Connections are accepted, on all ports together at most so many at one time; further ones wait in the system's backlog.
#[derive(Clone, Debug)]
pub(crate) struct Accepting {
    places: Arc<Semaphore>,
    gauge: Gauge,
    doors: Doors,
}

impl Accepting {
    pub(crate) fn new(most: usize, gauge: Gauge, doors: Doors) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            gauge,
            doors,
        }
    }

    /// Accepts until nobody serves any more.
    pub(crate) async fn accept(self, listener: TcpListener, serves: Serves) {
        while let Ok(permit) = Arc::clone(&self.places).acquire_owned().await {
            let Some((stream, peer)) = next(&listener, &self.doors.grpc).await else {
                return;
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%peer, %error, "connection ended at once");
                continue;
            }
            self.gauge.inc();
            let connection = Connection {
                stream,
                first: Bytes::new(),
                peer,
                port: serves,
                _place: Place {
                    _permit: permit,
                    gauge: self.gauge.clone(),
                },
            };
            tokio::spawn(hand_over(connection, self.doors.clone()));
        }
    }
}

/// Finds out what a connection speaks and hands it to who serves that.
async fn hand_over(mut connection: Connection, doors: Doors) {
    let peer = connection.peer;
    let recognised = tokio::time::timeout(FIRST_BYTES_TIMEOUT, recognise(&mut connection)).await;
    let served = match recognised {
        Ok(Ok(Detection::Http2)) if connection.port == Serves::OpenWire => {
            debug!(%peer, "client speaks gRPC, which this port does not serve; use the one of `listen`");
            true
        }
        Ok(Ok(Detection::Http2)) => doors.grpc.send(Ok(connection)).await.is_ok(),
        Ok(Ok(Detection::OpenWire)) => doors.openwire.send(connection).await.is_ok(),
        Ok(Ok(Detection::Tls)) => {
            debug!(%peer, "client begins TLS, which this port does not speak; connect without it");
            true
        }
        Ok(Ok(Detection::Unknown | Detection::NeedsMore)) => {
            debug!(%peer, "client speaks neither gRPC nor OpenWire");
            true
        }
        Ok(Err(error)) => {
            debug!(%peer, %error, "connection ended before its first words");
            true
        }
        Err(_) => {
            debug!(%peer, "client did not begin in time");
            true
        }
    };
    if !served {
        debug!(%peer, "gateway is stopping; connection is closed");
    }
}

/// Reads as much as it takes to tell the protocol. `NeedsMore`: the client left before.
async fn recognise(connection: &mut Connection) -> io::Result<Detection> {
    let mut first = BytesMut::with_capacity(DETECTION_BYTES_MAX);
    let detection = loop {
        match detect(&first) {
            Detection::NeedsMore => {}
            known => break known,
        }
        if connection.stream.read_buf(&mut first).await? == 0 {
            break Detection::NeedsMore;
        }
    };
    connection.first = first.freeze();
    Ok(detection)
}

/// The next connection; none when nobody wants one any more.
async fn next(
    listener: &TcpListener,
    accepted: &mpsc::Sender<io::Result<Connection>>,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let result = tokio::select! {
            result = listener.accept() => result,
            () = accepted.closed() => return None,
        };
        match result {
            Ok(connection) => return Some(connection),
            Err(error) => {
                // Out of file descriptors, or the client left: neither ends the service.
                warn!(%error, "connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let taken = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..taken]);
        self.first.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// How long a client may take over the first message of a call.
pub(crate) async fn first<T>(
    message: impl Future<Output = Result<Option<T>, tonic::Status>>,
    within: Duration,
) -> Result<T, tonic::Status> {
    match tokio::time::timeout(within, message).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(tonic::Status::invalid_argument(
            "the call ended before its first request",
        )),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(tonic::Status::deadline_exceeded(format!(
            "the first request did not come within {} s",
            within.as_secs()
        ))),
    }
}
