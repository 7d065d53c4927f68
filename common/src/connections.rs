//! Accepts connections, with a limit on their number and an idle timeout.
//!
//! Every port of a process accepts through this module. Peers can therefore neither use up the file descriptors nor
//! hold one while they are idle.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_io_timeout::TimeoutStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Limit of concurrent calls per HTTP/2 connection. An actor makes two, an upload and a subscription. Each call may
/// hold one message in memory.
pub const STREAMS: u32 = 8;

/// Limit of the headers of one request, in bytes. Requests of this project send a token and a few names.
pub const HEADERS: u32 = 16 << 10;

/// Pause after the operating system failed to accept a connection, for example because no descriptors are left.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Shortest time between two log lines about the same problem, so that a peer cannot fill the log.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// The limits of one port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Limit of open connections. A further connection is closed at once.
    pub most: usize,
    /// Time limit for the first byte of a connection.
    pub first_byte: Duration,
    /// Idle timeout of reads after that; `None` where the peer only listens.
    pub silence: Option<Duration>,
    /// Idle timeout of writes: the longest time in which the peer receives nothing of what it is sent.
    pub stall: Duration,
}

impl Limits {
    /// The limits of a port for metrics or health, which serves a few scrapers or probes.
    pub(crate) const SIDE_PORT: Self = Self {
        most: 16,
        first_byte: Duration::from_secs(10),
        silence: Some(Duration::from_secs(10)),
        stall: Duration::from_secs(10),
    };
}

/// The error when a connection was closed because the port was full.
#[derive(Debug)]
pub struct TooMany;

/// Accepts the connections of one port.
#[derive(Debug)]
pub struct Connections {
    listener: TcpListener,
    key: &'static str,
    limits: Limits,
    places: Arc<Semaphore>,
    refused: Repeated,
    failed: Repeated,
}

impl Connections {
    /// Returns the connections that `listener` accepts; its address is `key` in the configuration.
    pub fn new(listener: TcpListener, key: &'static str, limits: Limits) -> Self {
        Self {
            listener,
            key,
            limits,
            places: Arc::new(Semaphore::new(limits.most)),
            refused: Repeated::default(),
            failed: Repeated::default(),
        }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// [`TooMany`] when a connection was closed instead, because the port was full.
    pub async fn next(&mut self) -> Result<Connection, TooMany> {
        let port = self.key;
        let (stream, peer) = loop {
            match self.listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    if let Some(times) = self.failed.due() {
                        tracing::warn!(port, times, %error, "cannot accept connections");
                    }
                    tokio::time::sleep(AFTER_REFUSAL).await;
                }
            }
        };
        match self.places.clone().try_acquire_owned() {
            Ok(place) => Ok(Connection::new(stream, peer, place, self.limits)),
            Err(_) => {
                if let Some(times) = self.refused.due() {
                    let most = self.limits.most;
                    tracing::warn!(port, times, %peer, most, "too many connections");
                }
                Err(TooMany)
            }
        }
    }
}

/// A recurring problem that is logged at intervals.
#[derive(Debug, Default)]
struct Repeated {
    logged: Option<Instant>,
    since: u64,
}

impl Repeated {
    /// Counts one occurrence. Returns the number since the last log line when the next line is due.
    fn due(&mut self) -> Option<u64> {
        self.since += 1;
        if self.logged.is_some_and(|at| at.elapsed() < BETWEEN_LINES) {
            return None;
        }
        self.logged = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}

/// A connection that counts towards its port's limit. A read fails with [`io::ErrorKind::TimedOut`] when nothing
/// arrives in time, and a write when the peer receives nothing in time.
#[derive(Debug)]
pub struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    /// The idle timeout of reads to set after the first byte; the outer `None` once it is set.
    silence: Option<Option<Duration>>,
    ends: TcpConnectInfo,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        limits: Limits,
    ) -> Self {
        // Avoids delays of the small acknowledgements. A failure only makes them slower.
        let _ = stream.set_nodelay(true);
        let ends = TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: Some(peer),
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_read_timeout(Some(limits.first_byte));
        stream.set_write_timeout(Some(limits.stall));
        Self {
            stream: Box::pin(stream),
            silence: Some(limits.silence),
            ends,
            _place: place,
        }
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
        let before = buffer.filled().len();
        let read = self.stream.as_mut().poll_read(context, buffer);
        if buffer.filled().len() > before
            && let Some(silence) = self.silence.take()
        {
            let stream = self.stream.as_mut();
            stream.set_read_timeout_pinned(silence);
        }
        read
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

    use super::*;

    async fn port(limits: Limits) -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (Connections::new(listener, "a.port", limits), address)
    }

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_silent_connection_ends_and_makes_room() {
        let (mut connections, address) = port(Limits {
            most: 1,
            first_byte: LONG,
            silence: Some(SHORT),
            stall: LONG,
        })
        .await;
        let mut silent = TcpStream::connect(address).await.expect("a listener");
        let mut connection = connections.next().await.expect("room for one");
        silent.write_all(b"x").await.expect("open");
        assert_eq!(connection.read_u8().await.expect("a byte"), b'x');
        let error = connection.read_u8().await.expect_err("nothing more");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            connection.connect_info().remote_addr,
            silent.local_addr().ok()
        );

        // While it is open, the port is full.
        let mut refused = TcpStream::connect(address).await.expect("a listener");
        connections.next().await.expect_err("full");
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "closed");
        drop(connection);
        let _next = TcpStream::connect(address).await.expect("a listener");
        connections.next().await.expect("room again");
    }

    #[tokio::test]
    async fn a_connection_that_never_begins_ends_sooner_than_one_that_did() {
        let (mut connections, address) = port(Limits {
            most: 1,
            first_byte: SHORT,
            silence: Some(LONG),
            stall: LONG,
        })
        .await;
        let _silent = TcpStream::connect(address).await.expect("a listener");
        let mut connection = connections.next().await.expect("room for one");
        let error = connection.read_u8().await.expect_err("not a byte");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(connection);

        let mut begun = TcpStream::connect(address).await.expect("a listener");
        let mut connection = connections.next().await.expect("room again");
        begun.write_all(b"x").await.expect("open");
        assert_eq!(connection.read_u8().await.expect("a byte"), b'x');
        let more = tokio::time::timeout(10 * SHORT, connection.read_u8()).await;
        more.expect_err("it may wait for longer now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_problem_is_logged_at_intervals_with_its_count() {
        let mut trouble = Repeated::default();
        assert_eq!(trouble.due(), Some(1));
        assert_eq!([trouble.due(), trouble.due()], [None, None]);
        tokio::time::advance(BETWEEN_LINES).await;
        assert_eq!(trouble.due(), Some(3));
        assert_eq!(trouble.due(), None);
    }
}
