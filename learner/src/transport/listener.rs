//! Accepts connections of the gRPC service: within the port's limits, and through TLS if configured.

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

/// Longest time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Capacity for accepted connections that the server has not taken; it takes them immediately.
const HAND_OVER: usize = 1;

/// Passes on connections; with `tls`, only those that complete a TLS handshake. Counts the others as refused. Ends when
/// the stream is dropped.
pub(crate) fn accept(
    mut connections: Connections,
    tls: Option<Tls>,
) -> ReceiverStream<io::Result<ReadyConnection>> {
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
            // A separate task, so that a slow handshake delays no other connection.
            tokio::spawn(async move {
                let ends = accepted.connect_info();
                let connection = tokio::select! {
                    connection = ReadyConnection::open(accepted, tls) => connection,
                    () = sender.closed() => return,
                };
                match connection {
                    // The server that receives connections may have ended.
                    Ok(connection) => drop(sender.send(Ok(connection)).await),
                    Err(error) => {
                        tracing::info!(peer = ?ends.remote_addr, %error, "TLS handshake failed");
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

/// A byte stream: a connection, or TLS on a connection.
trait Transport: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// A connection that is ready for HTTP/2, after the TLS handshake if there is one.
pub(crate) struct ReadyConnection {
    stream: Pin<Box<dyn Transport>>,
    ends: TcpConnectInfo,
}

impl ReadyConnection {
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

impl Connected for ReadyConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.ends.clone()
    }
}

impl AsyncRead for ReadyConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for ReadyConnection {
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
