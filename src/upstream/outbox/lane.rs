//! The queue's way to the broker: one connection of the gateway's own.

use super::{Entry, Outbox, Safe, Step, record};
use crate::gateway::UpstreamSettings;
use crate::moment::Moment;
use crate::store::Op;
use crate::upstream::mqtt::{self, Connection};
use crate::upstream::{
    ConnId, ConnectOptions, Context, Event, Request, RequestId, SocketEvent, UplinkStage,
};
use crate::wire::{MsgId, QoS};

/// Messages the broker has not answered at most.
pub(super) const WINDOW: usize = 512;
/// Packet ids go round in this many numbers; those above are for what has no number.
const PACKET_IDS: u64 = 0x7fff;
/// The slot of its connection ids.
const SLOT: u32 = u32::MAX - 129;

/// The connection that carries the queue.
#[derive(Debug)]
pub(super) struct Lane {
    connection: Connection,
    stage: Stage,
    client_id: std::sync::Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Connecting so that the broker forgets what it has of an earlier run.
    Wiping,
    /// In use.
    Ready,
}

impl Lane {
    /// Makes the connection, and the request that opens it.
    pub(super) fn new(wipe: bool, cx: &Context<'_>) -> (Self, Request) {
        let lane = Self {
            connection: Connection::permanent(SLOT, cx.now),
            stage: if wipe { Stage::Wiping } else { Stage::Ready },
            client_id: format!("{}-uplink", cx.settings.shared.client_id).into(),
        };
        let connect = lane.options(wipe);
        (lane, connect)
    }

    fn options(&self, clean_session: bool) -> Request {
        Request::Connect(ConnectOptions {
            client_id: self.client_id.clone(),
            clean_session,
            will: None,
        })
    }
}

impl Outbox {
    /// Whether a connection is the queue's.
    pub fn owns(conn: ConnId) -> bool {
        Connection::slot_of(conn) == SLOT
    }

    /// Whether the broker is reached.
    pub fn is_up(&self) -> bool {
        let lane = self.lane.as_ref();
        lane.is_some_and(|lane| lane.stage == Stage::Ready && lane.connection.is_up())
    }

    /// Takes one event of the connection's socket.
    pub fn handle_socket(&mut self, event: SocketEvent<'_>, cx: &mut Context<'_>) {
        self.with_connection(cx, |connection, cx| connection.handle_socket(event, cx));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let lane = self.lane.as_ref();
        let due = lane.and_then(|lane| lane.connection.poll_timeout(cx.settings));
        if due.is_some_and(|due| due <= cx.now) {
            self.with_connection(cx, Connection::handle_timeout);
        }
        self.expire(cx);
        if self.sweep_at.is_some_and(|at| at <= cx.now) {
            self.sweep(cx);
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self, settings: &UpstreamSettings) -> Option<Moment> {
        let connection = self.lane.as_ref()?.connection.poll_timeout(settings);
        let waiting = self.queue.get(self.in_flight);
        let waiting = waiting.filter(|entry| matches!(entry.step, Step::Waiting { .. }));
        let expires = waiting.map(|entry| entry.since + settings.max_age);
        let due = [connection, expires, self.sweep_at];
        due.into_iter().flatten().min()
    }

    /// Says goodbye, after what is queued on the connection.
    pub fn shut_down(&mut self, cx: &mut Context<'_>) {
        self.ask(Request::Disconnect, cx);
    }

    pub(super) fn ask(&mut self, request: Request, cx: &mut Context<'_>) {
        self.with_connection(cx, |connection, cx| connection.handle_request(request, cx));
    }

    /// Gives the connection what it may have, in the order of the queue.
    pub(super) fn send_next(&mut self, cx: &mut Context<'_>) {
        if !self.is_up() {
            return;
        }
        while self.in_flight < WINDOW
            && let Some(oldest) = self.queue.front().map(|entry| entry.serial)
            && let Some(entry) = self.queue.get(self.in_flight)
            && entry.serial - oldest < PACKET_IDS
            && let Some(request) = entry.next_request()
        {
            if let Request::Publish { qos, .. } = request {
                if self.unreleased > 0 && qos == QoS::AtLeastOnce && self.would_overtake() {
                    return;
                }
                self.unreleased += usize::from(qos == QoS::ExactlyOnce);
            }
            if let Some(entry) = self.queue.get_mut(self.in_flight) {
                entry.sent();
            }
            self.in_flight += 1;
            self.ask(request, cx);
        }
    }

    /// Whether an earlier message of the same node is at the broker and not released: many a broker
    /// delivers it only then.
    fn would_overtake(&self) -> bool {
        let next = self.queue.get(self.in_flight);
        let Some(client_id) = next.and_then(|entry| entry.client_id.as_ref()) else {
            return false;
        };
        let mut sent = self.queue.iter().take(self.in_flight);
        sent.any(|entry| entry.is_unreleased() && entry.client_id.as_ref() == Some(client_id))
    }

    /// Tells the broker to forget the packet id of a message it has received.
    pub(super) fn release_to_broker(&mut self, serial: u64, cx: &mut Context<'_>) {
        self.unreleased = self.unreleased.saturating_sub(1);
        self.ask(release(serial), cx);
    }

    fn with_connection(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Connection, &mut mqtt::Context<'_>),
    ) {
        let Some(lane) = &mut self.lane else { return };
        let mut events = Vec::new();
        act(&mut lane.connection, &mut cx.mqtt(&mut events));
        for event in events {
            self.handle_event(&event, cx);
        }
    }

    fn handle_event(&mut self, event: &Event, cx: &mut Context<'_>) {
        match *event {
            Event::Connected { session_present } => self.connected(session_present, cx),
            Event::Uplink { id, stage } => self.answered(id, stage, cx),
            // It subscribes to nothing and is tried for ever.
            Event::Refused(_)
            | Event::NoRoom { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Message(_)
            | Event::Released(_)
            | Event::Closed => {}
        }
    }

    fn connected(&mut self, session_present: bool, cx: &mut Context<'_>) {
        let Some(lane) = &mut self.lane else { return };
        if lane.stage == Stage::Wiping {
            lane.stage = Stage::Ready;
            let connect = lane.options(false);
            return self.ask(connect, cx);
        }
        if !session_present {
            for entry in &mut self.queue {
                if let Step::Waiting { again } = &mut entry.step {
                    *again = false;
                }
            }
        }
        self.send_next(cx);
    }

    /// The broker answered a message.
    fn answered(&mut self, id: RequestId, stage: UplinkStage, cx: &mut Context<'_>) {
        let mut sent = self.queue.iter().take(self.in_flight);
        let Some(index) = sent.position(|entry| request_id(entry.serial) == id) else {
            return;
        };
        match stage {
            UplinkStage::Received => self.received(index, cx),
            UplinkStage::Acknowledged | UplinkStage::Completed => {
                let Some(entry) = self.remove(index) else {
                    return;
                };
                if entry.is_stored {
                    let key = record::key(entry.serial);
                    cx.ops.push(Op::Delete { key });
                }
                if let Some((asker, id)) = entry.unstored {
                    let stage = if stage == UplinkStage::Completed {
                        UplinkStage::Received
                    } else {
                        stage
                    };
                    self.tell(asker, id, stage);
                }
                self.send_next(cx);
            }
        }
    }

    /// The broker has a QoS 2 message. That must be safe before it is told to forget its packet id, else
    /// a gateway that was killed would publish it once more.
    fn received(&mut self, index: usize, cx: &mut Context<'_>) {
        let Some(entry) = self.queue.get_mut(index) else {
            return;
        };
        let serial = entry.serial;
        if entry.step != Step::Sent {
            return;
        }
        if entry.unstored.is_some() {
            entry.step = Step::Releasing;
            self.release_to_broker(serial, cx);
            return self.send_next(cx);
        }
        let before = entry.octets();
        entry.step = Step::Received;
        entry.record = record::releasing();
        self.octets -= before - entry.octets();
        cx.ops.push(Op::Put {
            key: record::key(serial),
            value: record::releasing(),
        });
        self.commit(Safe::Received(serial), cx);
    }
}

impl Entry {
    /// Returns what to ask of the broker first; `None` while it is not safe.
    fn next_request(&self) -> Option<Request> {
        let again = match self.step {
            Step::Waiting { again } => again,
            Step::Releasing => return Some(release(self.serial)),
            Step::Writing | Step::Sent | Step::Received => return None,
        };
        let message = record::decode(&self.record)?;
        Some(Request::Publish {
            id: request_id(self.serial),
            msg_id: packet_id(self.serial),
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            repeated: again,
        })
    }

    fn sent(&mut self) {
        if let Step::Waiting { .. } = self.step {
            self.step = Step::Sent;
        }
    }

    /// Whether it was published and waits for PUBREC, or for that to be safe.
    fn is_unreleased(&self) -> bool {
        let published = matches!(self.step, Step::Sent | Step::Received);
        published && record::is_qos2(&self.record)
    }
}

fn release(serial: u64) -> Request {
    Request::Release {
        id: request_id(serial),
        msg_id: packet_id(serial),
    }
}

fn request_id(serial: u64) -> RequestId {
    RequestId((serial % u64::from(u32::MAX)) as u32 + 1)
}

fn packet_id(serial: u64) -> MsgId {
    MsgId((serial % PACKET_IDS) as u16 + 1)
}
