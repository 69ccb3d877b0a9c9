//! What the gateway says of itself over MQTT, for dashboards and for Home Assistant.
//!
//! One connection of its own, on a thread of its own, owns the topics below `mqttsn/<gateway.name>`
//! and the gateway's Will. It learns what happens as the HTTP interface does: traces that come in
//! batches and are dropped and counted when it is slow, and questions between two turns of the loop.
//! One file a part: `topics` names them, `connection` keeps the broker, `publisher` decides what is
//! due, `clients` remembers what was said of each node, `report` is the JSON, `discovery` is for Home
//! Assistant, `commands` takes requests.

mod clients;
mod commands;
mod connection;
mod discovery;
mod publisher;
mod report;
mod topics;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::config::Config;
use crate::daemon::Order;
use crate::logging::LogHandle;
use publisher::Publisher;
use topics::Topics;

/// How long a goodbye to the broker may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What is published, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementConfig {
    /// What all topics begin with; `None` is `mqttsn/` and the gateway's name.
    pub topic: Option<Arc<str>>,
    /// Time between two publications of the counters; `None` is never.
    pub stats: Option<Duration>,
    /// Whether Home Assistant is told what there is to see.
    pub home_assistant: bool,
    /// Whether requests are taken from the broker: who may publish there may then change something.
    pub commands: bool,
}

/// What the connection needs to know of the rest.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// The configuration the gateway was started with.
    pub config: Arc<Config>,
    /// Host and port of the broker.
    pub broker: (String, u16),
    /// Where questions go.
    pub orders: mpsc::Sender<Order>,
    /// Changes the log level.
    pub log: LogHandle,
}

/// The running connection.
#[derive(Debug)]
pub struct Management {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Management {
    /// Publishes from now on. It needs the broker, but does not wait for it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(config: &ManagementConfig, neighbours: Neighbours) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopping) = oneshot::channel();
        let (ended, stopped) = oneshot::channel();
        let config = config.clone();
        let work = move || {
            runtime.block_on(async {
                Publisher::new(config, neighbours).run(stopping).await;
            });
            // Whoever waited may have gone.
            let _ = ended.send(());
        };
        thread::Builder::new()
            .name("management".to_owned())
            .spawn(work)?;
        Ok(Self { stop, stopped })
    }

    /// Says `offline` and closes the connection, in half a second at most.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = timeout(GOODBYE, self.stopped).await;
    }
}

impl ManagementConfig {
    /// Returns what all topics begin with, for a gateway of this name.
    pub fn base(&self, gateway: &str) -> String {
        match &self.topic {
            Some(topic) => topic.to_string(),
            None => format!("mqttsn/{}", topics::escape(gateway)),
        }
    }

    /// Returns the topic that says `online` or `offline`; it is the gateway's Will, too.
    pub fn status_topic(&self, gateway: &str) -> String {
        Topics::new(self.base(gateway)).status()
    }
}

impl Default for ManagementConfig {
    fn default() -> Self {
        Self {
            topic: None,
            stats: Some(Duration::from_secs(60)),
            home_assistant: false,
            commands: false,
        }
    }
}
