//! Connections before they say anything: how many there may be, and how long one may be silent.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hrm_common::telemetry::names::{self, CallRefused};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_io_timeout::TimeoutStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A connection on which nothing arrives for so long is closed. A live peer answers HTTP/2's keep-alive well
/// before; this is for those that never get as far as speaking HTTP/2.
const SILENCE: Duration = Duration::from_secs(60);

/// Where what is written is not taken for so long, the peer is gone or does not read.
const STALLED: Duration = Duration::from_secs(60);

/// Before accepting again when the operating system refused, as it does when there are no descriptors left.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Accepted and not yet taken over by the server: it takes them at once.
const HAND_OVER: usize = 1;

/// Accepts connections, at most `most` of them at a time; one more is closed at once and counted. Ends when the
/// stream is dropped.
pub fn accept(listener: TcpListener, most: usize) -> ReceiverStream<io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(most));
    let (sender, connections) = mpsc::channel(HAND_OVER);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(AFTER_REFUSAL).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                tracing::warn!(%peer, most, "too many connections (learner.max_connections)");
                names::LEARNER_CALLS_REFUSED
                    .with(CallRefused::Connections)
                    .increment(1);
                continue;
            };
            if sender
                .send(Ok(Connection::new(stream, peer, slot)))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    ReceiverStream::new(connections)
}

/// A connection that holds one of the places.
#[derive(Debug)]
pub struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    peer: SocketAddr,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) -> Self {
        // Acknowledgements are small and waited for. Where it cannot be set, they are slower.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_read_timeout(Some(SILENCE));
        stream.set_write_timeout(Some(STALLED));
        Self {
            stream: Box::pin(stream),
            peer,
            _slot: slot,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.stream.get_ref().local_addr().ok(),
            remote_addr: Some(self.peer),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
