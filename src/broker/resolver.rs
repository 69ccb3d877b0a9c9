//! Where the broker is: its name becomes addresses, on another thread, and stays known for a while.

use std::future::pending;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, warn};

/// How long a name's addresses are used before they are asked for again.
const FRESH: Duration = Duration::from_secs(30);

/// Finds the addresses of one host. Looking a name up may take seconds; meanwhile the last known
/// addresses serve.
pub(super) struct Resolver {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    /// Index of the address that worked last.
    preferred: usize,
    /// When the addresses should be looked up again; `None` for a numeric address.
    stale_at: Option<Instant>,
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    failing: bool,
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl Resolver {
    pub(super) fn new(host: &str, port: u16, now: Instant) -> Self {
        let numeric: Option<IpAddr> = host.parse().ok();
        Self {
            host: host.to_owned(),
            port,
            addresses: numeric.map(|ip| (ip, port).into()).into_iter().collect(),
            preferred: 0,
            stale_at: numeric.is_none().then_some(now),
            lookup: None,
            failing: false,
        }
    }

    /// Returns the known addresses.
    pub(super) fn known(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the known addresses, and starts a look-up when they are old; if there are none,
    /// [`resolved`](Self::resolved) says when to ask again.
    pub(super) fn addresses(&mut self, now: Instant) -> &[SocketAddr] {
        if self.stale_at.is_some_and(|stale_at| stale_at <= now) && self.lookup.is_none() {
            let (host, port) = (self.host.clone(), self.port);
            self.lookup = Some(spawn_blocking(move || {
                Ok((host.as_str(), port).to_socket_addrs()?.collect())
            }));
        }
        &self.addresses
    }

    /// Completes when a look-up has ended, well or not; never without one. May be cancelled.
    pub(super) async fn resolved(&mut self) {
        let Some(lookup) = &mut self.lookup else {
            return pending().await;
        };
        let answer = lookup
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.lookup = None;
        self.stale_at = Some(now() + FRESH);
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                debug!(host = %self.host, ?addresses, "broker's name resolved");
                self.failing = false;
                self.addresses = addresses;
                self.preferred = 0;
            }
            answer => {
                let error = answer.err().map(|error| error.to_string());
                if !self.failing {
                    warn!(host = %self.host, error, "broker's name cannot be resolved");
                }
                self.failing = true;
                // Without any address every connection asks again at once.
                if self.addresses.is_empty() {
                    self.stale_at = Some(now());
                }
            }
        }
    }

    /// Returns the index of the address to try first.
    pub(super) fn preferred(&self) -> usize {
        self.preferred
    }

    /// Remembers an address that worked.
    pub(super) fn prefer(&mut self, address: SocketAddr) {
        let index = self.addresses.iter().position(|&known| known == address);
        self.preferred = index.unwrap_or_default();
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn now() -> Instant {
    Instant::now()
}
