//! The port that clients connect to. It faces strangers: their number is bounded, and one that connects and says
//! nothing is let go.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use quorate_service::prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

use crate::limits::{ACCEPT_PAUSE, FIRST_BYTES_TIMEOUT, PREFACE_BYTES};

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Runs until the client has sent an HTTP/2 preface.
    silence: Option<Pin<Box<Sleep>>>,
    heard: usize,
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

/// Accepts connections, at most so many at one time; further ones wait in the system's backlog.
pub(crate) fn accept(
    listener: TcpListener,
    most: usize,
    gauge: Gauge,
) -> ReceiverStream<io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(most));
    tokio::spawn(async move {
        while let Ok(permit) = Arc::clone(&places).acquire_owned().await {
            let Some((stream, peer)) = next(&listener, &accepted).await else {
                return;
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%peer, %error, "connection ended at once");
                continue;
            }
            gauge.inc();
            let connection = Connection {
                stream,
                silence: Some(Box::pin(tokio::time::sleep(FIRST_BYTES_TIMEOUT))),
                heard: 0,
                _place: Place {
                    _permit: permit,
                    gauge: gauge.clone(),
                },
            };
            if accepted.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(connections)
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
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.silence.is_none() {
            return polled;
        }
        self.heard += buffer.filled().len() - before;
        if self.heard >= PREFACE_BYTES {
            self.silence = None;
            return polled;
        }
        if let Some(silence) = &mut self.silence
            && silence.as_mut().poll(context).is_ready()
        {
            let text = "the client did not begin in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
        polled
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
