//! A network between actor and learner that fails when it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::ANY_PORT;

/// A fault of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Everything arrives so much later.
    Delay(Duration),
    /// This many bytes per second pass, in each direction.
    Throttle(usize),
    /// One bit of so many bytes arrives as another.
    Corrupt(usize),
    /// Nothing gets through, and nobody is told.
    Partition,
    /// The actor's half of every connection ends; the other stays open.
    HalfClose,
    /// Connections are cut, and new ones hung up on.
    Cut,
}

/// Passes connections on to wherever the learner is at the moment.
pub struct Relay {
    /// The address to connect to.
    pub address: SocketAddr,
    upstream: watch::Sender<Option<SocketAddr>>,
    fault: watch::Sender<Fault>,
    refused: Arc<AtomicUsize>,
}

impl Relay {
    /// A relay that hangs up on everyone until it is told where to pass connections on.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.expect("a free port");
        let relay = Self {
            address: listener.local_addr().expect("bound"),
            upstream: watch::Sender::new(None),
            fault: watch::Sender::new(Fault::None),
            refused: Arc::default(),
        };
        let (upstream, fault) = (relay.upstream.subscribe(), relay.fault.subscribe());
        let refused = relay.refused.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let cut = *fault.borrow() == Fault::Cut;
                let upstream = upstream.borrow().filter(|_| !cut);
                let (refused, fault) = (refused.clone(), fault.clone());
                tokio::spawn(async move {
                    let far = match upstream {
                        Some(address) => TcpStream::connect(address).await.ok(),
                        None => None,
                    };
                    match far {
                        Some(far) => pass_on(near, far, fault).await,
                        None => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        relay
    }

    /// Passes on from now on.
    pub fn to(&self, upstream: SocketAddr) {
        self.upstream.send_replace(Some(upstream));
    }

    /// Fails in this way from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Connections that it hung up on.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Until either end hangs up, or the connection is cut.
async fn pass_on(mut near: TcpStream, mut far: TcpStream, fault: watch::Receiver<Fault>) {
    let (near_read, near_write) = near.split();
    let (far_read, far_write) = far.split();
    tokio::select! {
        () = pump(near_read, far_write, fault.clone(), true) => {}
        () = pump(far_read, near_write, fault, false) => {}
    }
}

/// One direction; `up` from the actor.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut fault: watch::Receiver<Fault>,
    up: bool,
) {
    let mut buffer = [0; 16 << 10];
    let mut passed = 0;
    loop {
        let now = *fault.borrow_and_update();
        let most = match now {
            Fault::Cut => return,
            Fault::HalfClose if up => {
                // The other direction stays open until someone hangs up.
                let _ = to.shutdown().await;
                return std::future::pending().await;
            }
            Fault::Partition => {
                if fault.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Fault::Throttle(rate) => (rate / 10).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let read = tokio::select! {
            read = from.read(&mut buffer[..most]) => read,
            changed = fault.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok(read @ 1..) = read else { return };
        match now {
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::Throttle(rate) => {
                tokio::time::sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await;
            }
            Fault::Corrupt(interval) => {
                let next = (passed / interval + 1) * interval;
                for place in (next..passed + read).step_by(interval) {
                    buffer[place - passed] ^= 1 << (place / interval % 8);
                }
            }
            _ => {}
        }
        passed += read;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
