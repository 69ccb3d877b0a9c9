//! An ordinary MQTT client at the broker.

use std::collections::VecDeque;

use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, Outgoing, Publish, QoS};

use crate::process::PATIENCE;

/// A connected MQTT client.
pub(crate) struct Mqtt {
    client: Client,
    connection: Connection,
    messages: VecDeque<Publish>,
}

impl Mqtt {
    /// Connects with a clean session.
    pub(crate) fn connect(port: u16, client_id: &str) -> Self {
        Self::with_session(port, client_id, true)
    }

    /// Connects, with a session the broker keeps unless it is clean.
    pub(crate) fn with_session(port: u16, client_id: &str, clean: bool) -> Self {
        let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        options.set_clean_session(clean);
        let (client, connection) = Client::new(options, 100);
        let mut mqtt = Self {
            client,
            connection,
            messages: VecDeque::new(),
        };
        mqtt.wait(|event| matches!(event, Event::Incoming(Incoming::ConnAck(_))));
        mqtt
    }

    /// Subscribes and waits for the broker's answer.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).expect("queued");
        self.wait(|event| matches!(event, Event::Incoming(Incoming::SubAck(_))));
    }

    /// Unsubscribes and waits for the broker's answer.
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).expect("queued");
        self.wait(|event| matches!(event, Event::Incoming(Incoming::UnsubAck(_))));
    }

    /// Publishes and waits until the broker has the message.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        qos: QoS,
        retain: bool,
        payload: impl Into<Vec<u8>>,
    ) {
        let queued = self.client.publish(topic, qos, retain, payload);
        queued.expect("queued");
        self.wait(|event| match qos {
            QoS::AtMostOnce => matches!(event, Event::Outgoing(Outgoing::Publish(_))),
            QoS::AtLeastOnce => matches!(event, Event::Incoming(Incoming::PubAck(_))),
            QoS::ExactlyOnce => matches!(event, Event::Incoming(Incoming::PubComp(_))),
        });
    }

    /// Waits for the next message.
    pub(crate) fn message(&mut self) -> Publish {
        while self.messages.is_empty() {
            self.next();
        }
        self.messages.pop_front().expect("not empty")
    }

    /// Leaves in order.
    pub(crate) fn disconnect(mut self) {
        self.client.disconnect().expect("queued");
        self.wait(|event| matches!(event, Event::Outgoing(Outgoing::Disconnect)));
    }

    fn wait(&mut self, wanted: impl Fn(&Event) -> bool) {
        while !wanted(&self.next()) {}
    }

    fn next(&mut self) -> Event {
        let event = self.connection.recv_timeout(PATIENCE);
        let event = event.expect("something happens").expect("the broker stays");
        if let Event::Incoming(Incoming::Publish(message)) = &event {
            self.messages.push_back(message.clone());
        }
        event
    }
}
