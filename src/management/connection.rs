//! The connection to the broker: made again and again, with longer pauses, until it is to end.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, LastWill, MqttOptions, Outgoing,
    Packet, Publish, QoS,
};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::topics::Topics;
use crate::gateway::Settings;

/// Publications on their way to the socket.
const REQUESTS: usize = 64;
/// Largest message accepted: requests are short.
const PACKET_MAX: usize = 64 * 1024;
/// The broker notices within one and a half of it that the gateway's machine is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// First and longest pause before another attempt.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the status topic says.
pub(super) const ONLINE: &str = "online";
pub(super) const OFFLINE: &str = "offline";

/// What the connection tells.
pub(super) enum Incoming {
    /// It stands; publish through this.
    Up(AsyncClient),
    /// Somebody published something.
    Message(Publish),
    /// It is lost, or was not accepted, with what to do in words if that is known.
    Down(Option<String>),
}

/// Returns how to connect: as `<name>-mgmt`, with the credentials of the nodes' connections.
pub(super) fn options(settings: &Settings, broker: &(String, u16), topics: &Topics) -> MqttOptions {
    let (host, port) = broker;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let mut options = MqttOptions::new(format!("{}-mgmt", settings.name), host, *port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_max_packet_size(PACKET_MAX, PACKET_MAX)
        .set_last_will(LastWill::new(
            topics.status(),
            OFFLINE,
            QoS::AtLeastOnce,
            true,
        ));
    if let Some((user, password)) = &settings.upstream.credentials {
        options.set_credentials(&**user, &**password);
    }
    options
}

/// Keeps a connection until it has said goodbye or nobody listens.
///
/// Each attempt begins with nothing: what was not published before is asked for anew by whoever
/// publishes, so nothing old is sent.
pub(super) async fn keep(options: MqttOptions, incoming: mpsc::Sender<Incoming>) {
    let mut pause = PAUSE;
    loop {
        let (client, mut events) = AsyncClient::new(options.clone(), REQUESTS);
        let mut client = Some(client);
        let error = loop {
            let told = match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => client.take().map(Incoming::Up),
                Ok(Event::Incoming(Packet::Publish(publish))) => Some(Incoming::Message(publish)),
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(Event::Incoming(_) | Event::Outgoing(_)) => None,
                Err(error) => break error,
            };
            if let Some(told) = told
                && incoming.send(told).await.is_err()
            {
                return;
            }
        };
        let was_up = client.is_none();
        tracing::debug!(%error, "management: no connection");
        let told = Incoming::Down(advice(&error));
        if incoming.send(told).await.is_err() {
            return;
        }
        pause = if was_up {
            PAUSE
        } else {
            (pause * 2).min(PAUSE_MAX)
        };
        // Not all gateways of a site at the same moment.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Says what a broker's refusal means; a broker that is not reached is told by the gateway's own
/// connection.
fn advice(error: &ConnectionError) -> Option<String> {
    let ConnectionError::ConnectionRefused(code) = error else {
        return None;
    };
    let why = match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            "not authorised. Let broker.user in"
        }
        ConnectReturnCode::BadClientId => "the client id is refused. Let it in",
        ConnectReturnCode::ServiceUnavailable
        | ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::Success => "it does not say why. Look into its log",
    };
    Some(why.to_owned())
}
