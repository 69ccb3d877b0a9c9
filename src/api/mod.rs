//! One HTTP interface to everything there is to see: JSON, live events, metrics, the page.
//!
//! It runs on a thread of its own and never holds the gateway up: a view is a question to the task
//! that owns the core, answered between two of its turns; what happens comes in batches that are
//! dropped and counted when nobody takes them. One file a part: `access` says who may do what,
//! `server` accepts connections, `routes` and `nodes` answer, `model` is the JSON, `events` and
//! `capture` stream, `shown` is the JSON of an event, `explain` says why a node does not come through, `metrics` is for Prometheus.

mod access;
mod capture;
mod events;
mod explain;
mod metrics;
pub(crate) mod model;
mod nodes;
mod page;
mod routes;
mod server;
mod shown;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use nodes::sort_keys;
pub use server::Server;
pub(crate) use shown::describe;

use crate::config::{self, Config, LoadError};
use crate::daemon::Order;
use crate::logging::LogHandle;

/// Where the interface listens, and who may change something.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What a request that changes something has to carry; without it every local one may.
    pub token: Option<Arc<str>>,
}

/// What the interface knows before it asks.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The configuration the gateway was started with.
    pub config: Arc<Config>,
    /// Address of the broker.
    pub broker: String,
    /// Where questions go.
    pub orders: mpsc::Sender<Order>,
    /// Reads the configuration again.
    pub reload: Reload,
}

/// Reads the configuration again, for a signal or a request.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The configuration file.
    pub path: PathBuf,
    /// Changes the log level.
    pub log: LogHandle,
    /// Where the new configuration goes.
    pub orders: mpsc::Sender<Order>,
}

impl Reload {
    /// Reads the file and takes over what may change; the log says what happened.
    ///
    /// # Errors
    /// When the file is wrong; then the old configuration stays in force.
    pub async fn run(&self) -> Result<(), LoadError> {
        match config::load(&self.path) {
            Ok(config) => {
                self.log.apply(&config.log);
                // When nobody takes it the gateway is ending.
                let _ = self.orders.send(Order::Reload(Box::new(config))).await;
                Ok(())
            }
            Err(error) => {
                tracing::error!("the old configuration stays in force\n{error}");
                Err(error)
            }
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            token: None,
        }
    }
}

impl fmt::Display for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.listen)?;
        match self.token {
            Some(_) => f.write_str(", changes need the token"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("listen", &self.listen)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .finish()
    }
}
