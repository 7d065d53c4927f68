//! Connections of the gRPC service: within the port's limits, and through TLS where that is configured.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hrm_common::{
    connections::{self, Connections},
    telemetry::names::{self, CallRefused},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::transport::tls::Tls;

/// How long a peer may take over the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Accepted and not yet taken over by the server: it takes them at once.
const HAND_OVER: usize = 1;

/// Passes connections on; with `tls`, those that get through its handshake. Counts the others as refused. Ends when
/// the stream is dropped.
pub fn accept(
    mut connections: Connections,
    tls: Option<Tls>,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, stream) = mpsc::channel(HAND_OVER);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = connections.next() => accepted,
                () = sender.closed() => return,
            };
            let Ok(accepted) = accepted else {
                count_refused(CallRefused::Connections);
                continue;
            };
            let (sender, tls) = (sender.clone(), tls.as_ref().map(|tls| tls.get()));
            // One that is slow over its handshake keeps nobody waiting.
            tokio::spawn(async move {
                let ends = accepted.connect_info();
                let connection = tokio::select! {
                    connection = Connection::open(accepted, tls) => connection,
                    () = sender.closed() => return,
                };
                match connection {
                    // Whoever took them over may be gone.
                    Ok(connection) => drop(sender.send(Ok(connection)).await),
                    Err(error) => {
                        tracing::info!(peer = ?ends.remote_addr, %error, "no TLS handshake");
                        count_refused(CallRefused::Handshake);
                    }
                }
            });
        }
    });
    ReceiverStream::new(stream)
}

fn count_refused(reason: CallRefused) {
    names::LEARNER_CALLS_REFUSED.with(reason).increment(1);
}

/// What is read and written: a connection, or TLS on one.
trait Transport: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// A connection that got through the handshake, if one is asked for.
pub struct Connection {
    stream: Pin<Box<dyn Transport>>,
    ends: TcpConnectInfo,
}

impl Connection {
    async fn open(
        accepted: connections::Connection,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let ends = accepted.connect_info();
        let stream: Pin<Box<dyn Transport>> = match tls {
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls).accept(accepted);
                Box::pin(timeout(HANDSHAKE, handshake).await??)
            }
            None => Box::pin(accepted),
        };
        Ok(Self { stream, ends })
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
