//! Accepting connections, a bounded number of them, on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::routes::{self, State};
use super::{HttpConfig, Surroundings};

/// Connections at a time; more wait in the kernel.
const CONNECTIONS_MAX: usize = 128;
/// Wait after the system refused a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A bound interface.
pub struct Server {
    listener: std::net::TcpListener,
    config: HttpConfig,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn bind(config: &HttpConfig) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            config: config.clone(),
        })
    }

    /// Returns the address it listens on, the port filled in.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves from now on, until the process ends.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self, surroundings: Surroundings) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = move || {
            runtime.block_on(async move {
                if let Err(error) = self.serve(surroundings).await {
                    tracing::error!(%error, "http: ended");
                }
            });
        };
        thread::Builder::new().name("http".to_owned()).spawn(work)?;
        Ok(())
    }

    async fn serve(self, surroundings: Surroundings) -> io::Result<()> {
        let listener = Bounded {
            listener: TcpListener::from_std(self.listener)?,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        let state = State::new(surroundings, self.config.token);
        axum::serve(listener, routes::router(state)).await
    }
}

/// A listener that accepts when there is a place.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A connection that gives its place back when it is dropped.
struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Listener for Bounded {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let placed = Placed {
                        stream,
                        _place: place,
                    };
                    return (placed, address);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
