//! Connections before they say anything: how many there may be, how long one may be silent, and TLS.

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
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::tls::Tls;

/// Before accepting again when the operating system refused, as it does when there are no descriptors left.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// How long a peer may take over the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Accepted and not yet taken over by the server: it takes them at once.
const HAND_OVER: usize = 1;

/// Accepts connections, at most `most` of them at a time; one more is closed at once and counted. A connection
/// fails on which nothing arrives for as long as `silence`, or nothing that is written is taken. With `tls`, those
/// come out that got through its handshake. Ends when the stream is dropped.
pub fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    most: usize,
    silence: Duration,
) -> ReceiverStream<io::Result<Connection>> {
    let (slots, tls) = (Arc::new(Semaphore::new(most)), tls.map(Arc::new));
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
                count_refused(CallRefused::Connections);
                continue;
            };
            let (sender, tls) = (sender.clone(), tls.clone());
            // One that is slow over its handshake keeps nobody waiting.
            tokio::spawn(async move {
                let connection = tokio::select! {
                    connection = Connection::open(stream, peer, slot, tls.as_deref(), silence) => connection,
                    () = sender.closed() => return,
                };
                match connection {
                    // Whoever took them over may be gone.
                    Ok(connection) => drop(sender.send(Ok(connection)).await),
                    Err(error) => {
                        tracing::info!(%peer, %error, "no TLS handshake");
                        count_refused(CallRefused::Handshake);
                    }
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

fn count_refused(reason: CallRefused) {
    names::LEARNER_CALLS_REFUSED.with(reason).increment(1);
}

/// What is read and written: a socket, or TLS on one.
trait Transport: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// A connection that holds one of the places.
pub struct Connection {
    stream: Pin<Box<dyn Transport>>,
    ends: TcpConnectInfo,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn open(
        stream: TcpStream,
        peer: SocketAddr,
        slot: OwnedSemaphorePermit,
        tls: Option<&Tls>,
        silence: Duration,
    ) -> io::Result<Self> {
        // Acknowledgements are small and waited for. Where it cannot be set, they are slower.
        let _ = stream.set_nodelay(true);
        let ends = TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: Some(peer),
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_read_timeout(Some(silence));
        stream.set_write_timeout(Some(silence));
        let stream = Box::pin(stream);
        let stream: Pin<Box<dyn Transport>> = match tls {
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.get()).accept(stream);
                Box::pin(timeout(HANDSHAKE, handshake).await??)
            }
            None => stream,
        };
        Ok(Self {
            stream,
            ends,
            _slot: slot,
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.ends.clone()
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_given_up_and_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut connections = accept(listener, None, 1, Duration::from_millis(50));
        let mut silent = TcpStream::connect(address).await.expect("a listener");
        let mut connection = connections.next().await.expect("one").expect("accepted");
        silent.write_all(b"x").await.expect("open");
        assert_eq!(connection.read_u8().await.expect("it said so"), b'x');
        let error = connection.read_u8().await.expect_err("nothing more");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            connection.connect_info().remote_addr,
            silent.local_addr().ok()
        );

        // While it is held there is room for nobody else.
        let mut refused = TcpStream::connect(address).await.expect("a listener");
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "closed");
        drop(connection);
        let _next = TcpStream::connect(address).await.expect("a listener");
        connections.next().await.expect("one").expect("accepted");
    }
}
