//! The MQTT clients of the embedded broker, a task each.
//!
//! Not rumqttd's own server, for two reasons. It keeps Wills by client id and looks for one a moment
//! after every end of a connection: a client that said goodbye and was back within a millisecond had
//! the Will of its new connection published, and lost. And it panics when a client comes again whose
//! id rumqttd refuses, such as one with a slash.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttd::Notification;
use rumqttd::local::{LinkRx, LinkTx};
use rumqttd::protocol::{
    Connect, ConnectReturnCode, Disconnect, DisconnectReasonCode, LastWill, Packet, Publish,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, End, Filters, compact};

/// How long a client may take to send CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The router's name for the sender of Wills; no client has it ([`Clients::router_id`]).
const WILLS: &str = "%wills";

/// The link of a client to the router, and its CONNACK; `None` when the router takes no more.
type Link = Option<(LinkTx, LinkRx, Notification)>;
/// Opens a link to the router: by the router's id, and whether the session is clean.
type Attach = Box<dyn Fn(&str, bool) -> Link + Send + Sync>;

/// All clients.
#[derive(Clone)]
pub(super) struct Clients(Arc<Shared>);

struct Shared {
    attach: Attach,
    /// Who has which client id, by the router's id.
    seats: Mutex<HashMap<String, Seat>>,
    /// The filters of kept sessions whose clients are away, by the router's id.
    kept: Mutex<HashMap<String, Filters>>,
    /// Clients that brought no id.
    nameless: AtomicU64,
}

/// How to get another connection out of a client id.
struct Seat {
    leave: oneshot::Sender<()>,
    /// Closed when it has gone.
    gone: oneshot::Receiver<()>,
}

impl Clients {
    pub(super) fn new(attach: impl Fn(&str, bool) -> Link + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            attach: Box::new(attach),
            seats: Mutex::default(),
            kept: Mutex::default(),
            nameless: AtomicU64::default(),
        }))
    }

    /// Serves whoever connects; returns never.
    pub(super) async fn serve(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().handle(stream));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn handle(self, stream: TcpStream) {
        let mut connection = Connection::new(stream);
        let Ok(Ok(Packet::Connect(connect, _, will, _, _))) =
            timeout(CONNECT_TIMEOUT, connection.read()).await
        else {
            return;
        };
        if connect.client_id.is_empty() && !connect.clean_session {
            let code = ConnectReturnCode::ClientIdentifierNotValid;
            return connection.refuse(code).await;
        }
        // A PUBLISH to such a topic would cost its sender the connection.
        if will.as_ref().is_some_and(|will| !is_topic(&will.topic)) {
            return;
        }
        let id = self.router_id(&connect.client_id);
        let (leave, asked) = oneshot::channel();
        let (here, gone) = oneshot::channel();
        let previous = self.seats(|seats| seats.insert(id.clone(), Seat { leave, gone }));
        if let Some(previous) = previous {
            // Its Will comes before whatever this one says. Failing says that it has gone already.
            let _ = previous.leave.send(());
            let _ = previous.gone.await;
        }
        if let Some(due) = self.attend(connection, &id, &connect, will, asked).await {
            self.publish(due).await;
        }
        self.seats(|seats| {
            // Whoever came next has the entry otherwise, and still waits.
            if seats.get(&id).is_some_and(|seat| seat.leave.is_closed()) {
                seats.remove(&id);
            }
        });
        drop(here);
    }

    /// Serves a client until it ends or is asked to; returns the Will that is due then.
    async fn attend(
        &self,
        mut connection: Connection,
        id: &str,
        connect: &Connect,
        will: Option<LastWill>,
        asked: oneshot::Receiver<()>,
    ) -> Option<LastWill> {
        let Some((mut tx, mut rx, accepted)) = (self.0.attach)(id, connect.clean_session) else {
            let code = ConnectReturnCode::ServiceUnavailable;
            connection.refuse(code).await;
            return None;
        };
        let kept = self.kept(|kept| kept.remove(id));
        let mut filters = kept.filter(|_| !connect.clean_session).unwrap_or_default();
        let end = tokio::select! {
            end = connection.converse(connect, &mut filters, &mut tx, &mut rx, accepted) => end,
            _ = asked => End::Lost,
        };
        if !connect.clean_session {
            self.kept(|kept| kept.insert(id.to_owned(), filters));
        }
        // It only fails when the router is gone.
        let _ = tx.send(goodbye()).await;
        will.filter(|_| end == End::Lost)
    }

    /// Publishes a Will. Its QoS does not matter: rumqttd takes that of the subscription.
    async fn publish(&self, will: LastWill) {
        let Some((mut tx, _rx, _)) = (self.0.attach)(WILLS, true) else {
            return;
        };
        let mut publish = Publish::new(will.topic, will.message, will.retain);
        compact(&mut publish);
        let _ = tx.send(Packet::Publish(publish, None)).await;
        let _ = tx.send(goodbye()).await;
    }

    /// Returns the router's id for a client id: without what rumqttd refuses in one, and like no id
    /// made here.
    fn router_id(&self, client_id: &str) -> String {
        if client_id.is_empty() {
            let number = self.0.nameless.fetch_add(1, Ordering::Relaxed);
            return format!("%nameless-{number}");
        }
        let mut id = String::with_capacity(client_id.len());
        for letter in client_id.chars() {
            match letter {
                '%' => id.push_str("%25"),
                '+' => id.push_str("%2B"),
                '$' => id.push_str("%24"),
                '#' => id.push_str("%23"),
                '/' => id.push_str("%2F"),
                _ => id.push(letter),
            }
        }
        id
    }

    fn kept<T>(&self, with: impl FnOnce(&mut HashMap<String, Filters>) -> T) -> T {
        with(&mut self.0.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn seats<T>(&self, with: impl FnOnce(&mut HashMap<String, Seat>) -> T) -> T {
        with(&mut self.0.seats.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn goodbye() -> Packet {
    let reason_code = DisconnectReasonCode::NormalDisconnection;
    Packet::Disconnect(Disconnect { reason_code }, None)
}

/// Whether a message can be published to it.
fn is_topic(octets: &[u8]) -> bool {
    std::str::from_utf8(octets).is_ok_and(|name| !name.is_empty() && !name.contains(['+', '#']))
}
