//! The TCP connection of one MQTT client, between its octets and the router's packets.

use std::collections::HashSet;
use std::future::ready;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttd::Notification;
use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::{
    ConnAck, Connect, ConnectReturnCode, Error, Filter, Packet, Protocol, Publish, QoS,
    RetainForwardRule, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, Unsubscribe,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Largest MQTT packet: the longest MQTT-SN payload, its topic name and headers, with room to spare.
const PACKET_MAX: usize = 256 * 1024;
/// Octets of the read buffer, and the room in it below which it gets another.
const READ_BUFFER: usize = 4096;
const READ_ROOM: usize = 1024;

/// As good as never: how long a client whose keep-alive is 0 may be silent.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// Message id of what the router is told unasked; its answers are not for the client.
const UNASKED: u16 = 0;

/// Every filter a session has had a subscription to, ended ones included.
pub(super) type Filters = HashSet<String>;

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By DISCONNECT.
    Goodbye,
    /// In any other way.
    Lost,
}

pub(super) struct Connection {
    stream: TcpStream,
    received: BytesMut,
    unsent: BytesMut,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Without it an acknowledgement may wait 40 ms for the one before.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            received: BytesMut::new(),
            unsent: BytesMut::new(),
        }
    }

    /// Refuses a CONNECT.
    pub(super) async fn refuse(&mut self, code: ConnectReturnCode) {
        let refusal = ConnAck {
            session_present: false,
            code,
        };
        if self.queue(Packet::ConnAck(refusal, None)).is_ok() {
            // The client is told so far as it listens.
            let _ = self.flush().await;
        }
    }

    /// Carries packets between the client and the router until one of them ends it, or the client is
    /// silent for too long. May be cancelled, which ends it as well.
    pub(super) async fn converse(
        &mut self,
        connect: &Connect,
        filters: &mut Filters,
        tx: &mut LinkTx,
        rx: &mut LinkRx,
        accepted: Notification,
    ) -> End {
        let silence_max = match connect.keep_alive {
            0 => NEVER,
            seconds => Duration::from_millis(u64::from(seconds) * 1500),
        };
        let mut silence = pin!(sleep(silence_max));
        let mut said = Some(Ok(Some(accepted)));
        loop {
            let Ok(waits) = self.take(rx, said.take()).await else {
                return End::Lost;
            };
            let sent = timeout(silence_max, self.flush()).await;
            if !matches!(sent, Ok(Ok(()))) || (waits && rx.wake().await.is_err()) {
                return End::Lost;
            }
            tokio::select! {
                packet = self.read() => {
                    if let Some(end) = self.hand_on(connect, filters, tx, packet).await {
                        return end;
                    }
                    silence.as_mut().reset(Instant::now() + silence_max);
                }
                next = rx.next() => said = Some(next),
                () = &mut silence => return End::Lost,
            }
        }
    }

    /// Hands a packet to the router, and what came behind it, as far as that is not the end.
    async fn hand_on(
        &mut self,
        connect: &Connect,
        filters: &mut Filters,
        tx: &mut LinkTx,
        first: io::Result<Packet>,
    ) -> Option<End> {
        let mut next = Some(first);
        let mut last = None;
        let end = loop {
            let mut packet = match next {
                None => break None,
                Some(Ok(Packet::Disconnect(..))) => break Some(End::Goodbye),
                Some(Ok(Packet::Connect(..)) | Err(_)) => break Some(End::Lost),
                // MQTT-2.3.1-1.
                Some(Ok(Packet::Subscribe(Subscribe { pkid: 0, .. }, _))) => break Some(End::Lost),
                Some(Ok(Packet::Unsubscribe(Unsubscribe { pkid: 0, .. }, _))) => {
                    break Some(End::Lost);
                }
                Some(Ok(packet)) => packet,
            };
            if let Some(answer) = answer(connect, filters, &packet) {
                if self.queue(answer).is_err() {
                    break Some(End::Lost);
                }
            } else if let Packet::Unsubscribe(unsubscribe, _) = packet {
                let mut buffer = tx.buffer();
                buffer.extend(last.replace(unsubscription(UNASKED, Vec::new())));
                buffer.extend(unsubscriptions(filters, unsubscribe));
            } else {
                if let Packet::Publish(publish, _) = &mut packet {
                    compact(publish);
                } else if let Packet::Subscribe(subscribe, _) = &packet {
                    filters.extend(subscribe.filters.iter().map(|filter| filter.path.clone()));
                }
                if let Some(earlier) = last.replace(packet) {
                    tx.buffer().push_back(earlier);
                }
            }
            next = self.decode();
        };
        if let Some(last) = last {
            // Makes the router look at the queue. It fails when the router is gone, and `rx` then, too.
            let _ = tx.send(last).await;
        }
        end
    }

    /// Queues what the router said, and what else it has to say now. True if it waits to be asked for
    /// more; an error is its way of hanging up.
    async fn take(
        &mut self,
        rx: &mut LinkRx,
        mut said: Option<Result<Option<Notification>, LinkError>>,
    ) -> io::Result<bool> {
        let mut waits = false;
        while let Some(this) = said {
            if let Some(notification) = this.map_err(io::Error::other)? {
                match Option::<Packet>::from(notification) {
                    Some(Packet::SubAck(SubAck { pkid: UNASKED, .. }, _)) => {}
                    Some(Packet::UnsubAck(UnsubAck { pkid: UNASKED, .. }, _)) => {}
                    Some(packet) => self.queue(packet)?,
                    None => waits = true,
                }
            }
            said = tokio::select! {
                biased;
                next = rx.next() => Some(next),
                () = ready(()) => None,
            };
        }
        Ok(waits)
    }

    /// Reads the next packet. May be cancelled.
    pub(super) async fn read(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.decode() {
                return packet;
            }
            self.stream.readable().await?;
            if self.received.capacity() - self.received.len() < READ_ROOM {
                self.received.reserve(READ_BUFFER);
            }
            match self.stream.try_read_buf(&mut self.received) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next packet from what was received, if it is complete.
    fn decode(&mut self) -> Option<io::Result<Packet>> {
        match V4.read_mut(&mut self.received, PACKET_MAX) {
            Ok(packet) => Some(Ok(packet)),
            Err(Error::InsufficientBytes(_)) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        }
    }

    fn queue(&mut self, packet: Packet) -> io::Result<()> {
        let written = V4.write(packet, &mut self.unsent);
        written.map(|_| ()).map_err(io::Error::other)
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&self.unsent).await?;
        // Gives the memory back: most connections are idle most of the time.
        self.unsent = BytesMut::new();
        Ok(())
    }
}

/// Returns the answer to a packet the router must not see: a SUBSCRIBE it would hang up for or not
/// survive (it panics when the last member of a shared subscription goes whose session is kept), and
/// an UNSUBSCRIBE it would not answer.
fn answer(connect: &Connect, filters: &Filters, packet: &Packet) -> Option<Packet> {
    if let Packet::Unsubscribe(unsubscribe, _) = packet {
        let known = unsubscribe
            .filters
            .iter()
            .any(|path| filters.contains(path));
        let pkid = unsubscribe.pkid;
        let reasons = Vec::new();
        return (!known).then(|| Packet::UnsubAck(UnsubAck { pkid, reasons }, None));
    }
    let Packet::Subscribe(subscribe, _) = packet else {
        return None;
    };
    let is_refused = |filter: &Filter| {
        let shared = filter.path.starts_with("$share/");
        (shared && !connect.clean_session) || (!shared && filter.path.starts_with('$'))
    };
    subscribe.filters.iter().any(is_refused).then(|| {
        let return_codes = vec![SubscribeReasonCode::Failure; subscribe.filters.len()];
        let pkid = subscribe.pkid;
        Packet::SubAck(SubAck { pkid, return_codes }, None)
    })
}

/// Translates an UNSUBSCRIBE for the router, which answers once for each filter it takes for
/// subscribed to, and not at all for others, those of a kept session before this connection included.
/// It is told of all of them first. It must see these packets at once, and then delivers nothing.
fn unsubscriptions(filters: &Filters, unsubscribe: Unsubscribe) -> impl Iterator<Item = Packet> {
    let ended: HashSet<String> = unsubscribe
        .filters
        .into_iter()
        .filter(|path| filters.contains(path))
        .collect();
    let subscribe = Subscribe {
        pkid: UNASKED,
        filters: ended.iter().cloned().map(subscription).collect(),
    };
    let mut ended: Vec<String> = ended.into_iter().collect();
    let last = ended.pop().into_iter().collect();
    [
        Packet::Subscribe(subscribe, None),
        unsubscription(UNASKED, ended),
        unsubscription(unsubscribe.pkid, last),
    ]
    .into_iter()
}

/// Copies topic and payload out of the read buffer, which the router would keep along with them.
pub(super) fn compact(publish: &mut Publish) {
    let topic_length = publish.topic.len();
    let mut octets = Vec::with_capacity(topic_length + publish.payload.len());
    octets.extend_from_slice(&publish.topic);
    octets.extend_from_slice(&publish.payload);
    publish.topic = Bytes::from(octets);
    publish.payload = publish.topic.split_off(topic_length);
}

fn unsubscription(pkid: u16, filters: Vec<String>) -> Packet {
    Packet::Unsubscribe(Unsubscribe { pkid, filters }, None)
}

fn subscription(path: String) -> Filter {
    Filter {
        path,
        qos: QoS::AtMostOnce,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::Never,
    }
}
