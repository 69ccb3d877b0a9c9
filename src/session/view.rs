//! What a session looks like from outside: a copy, for people and programs that ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::Connecting;
use super::{Session, State, Status};
use crate::gateway::{Load, SessionSettings};
use crate::moment::{Epoch, Moment};
use crate::topics::Registration;
use crate::wire::{MsgId, QoS, TopicId};

/// One session.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// State.
    pub status: Status,
    /// `CleanSession` of the CONNECT in force.
    pub clean_session: bool,
    /// Keep-alive in seconds; 0 is none.
    pub keep_alive: u16,
    /// Sleep duration in seconds, as last announced.
    pub sleep: u16,
    /// What a connecting node waits for.
    pub waits_for: Option<WaitsFor>,
    /// When it was last heard.
    pub last_heard: Instant,
    /// When it should be heard again, without tolerance.
    pub due: Option<Instant>,
    /// When it counts as lost, or is forgotten.
    pub until: Option<Instant>,
    /// The broker has ended its session while it slept.
    pub orphaned: bool,
    /// Topic of its Will.
    pub will: Option<Arc<str>>,
    /// Topic names with an id.
    pub topics: Vec<TopicView>,
    /// What it subscribed to.
    pub subscriptions: Vec<SubscriptionView>,
    /// Requests to subscribe or unsubscribe the broker has not answered.
    pub pending_subscriptions: usize,
    /// Messages that wait for it, in the order of delivery.
    pub queue: Vec<QueuedView>,
    /// Messages of the node the broker has not acknowledged.
    pub uplink: Vec<UplinkView>,
    /// What the node has to answer.
    pub exchange: Option<ExchangeView>,
}

/// A topic name and its id.
#[derive(Clone, Debug)]
pub struct TopicView {
    /// The id.
    pub id: TopicId,
    /// The name.
    pub name: Arc<str>,
    /// What the node knows of it; `None` for a pre-defined id.
    pub registration: Option<Registration>,
}

/// A subscription the broker has granted.
#[derive(Clone, Debug)]
pub struct SubscriptionView {
    /// The filter.
    pub filter: Arc<str>,
    /// Granted quality of service.
    pub qos: QoS,
}

/// A message that waits.
#[derive(Clone, Debug)]
pub struct QueuedView {
    /// Its topic name.
    pub topic: Arc<str>,
    /// Octets of its payload.
    pub octets: usize,
    /// Quality of service.
    pub qos: QoS,
    /// When it came from the broker.
    pub since: Instant,
}

/// A message of the node under way to the broker.
#[derive(Clone, Debug)]
pub struct UplinkView {
    /// The node's message id.
    pub msg_id: Option<MsgId>,
    /// Quality of service.
    pub qos: QoS,
    /// When it came from the node.
    pub since: Instant,
}

/// A request the node has not answered.
#[derive(Clone, Debug)]
pub struct ExchangeView {
    /// The packet that was sent.
    pub packet: &'static str,
    /// The gateway's message id.
    pub msg_id: MsgId,
    /// When it was first sent in this round.
    pub since: Instant,
    /// Repetitions in this round.
    pub repeats: u32,
    /// Wake-ups in which the node did not acknowledge it.
    pub failures: u32,
    /// When it is sent again.
    pub retry_at: Option<Instant>,
}

/// What a connecting node waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The gateway asked for its Will, and the node has not sent it.
    Will,
    /// The broker has not answered.
    Broker,
    /// The store has not said that it has what CONNACK promises.
    Store,
}

impl WaitsFor {
    /// Returns it in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Will => "its Will, which the node has not sent",
            Self::Broker => "the broker",
            Self::Store => "the store, which is to have what CONNACK promises",
        }
    }
}

impl Session {
    /// Returns how much the node makes this session hold.
    pub fn load(&self) -> Load {
        let (queued_qos0, queued_octets) = self.downlink.load();
        Load {
            client_id: self.client_id.clone(),
            queued: self.downlink.queued() - queued_qos0,
            queued_qos0,
            queued_octets,
            owed: 0,
            uplink: self.uplink.len(),
            topics: self.registry.len(),
            subscriptions: self.subscriptions.len(),
            to_broker: 0,
            from_broker: 0,
        }
    }

    /// Copies what there is to see, the first `most` of each list.
    pub fn view(&self, settings: &SessionSettings, epoch: Epoch, most: usize) -> SessionView {
        let instant = |at| epoch.instant(at);
        let topics = self
            .registry
            .iter()
            .map(|(id, name, registration)| TopicView {
                id,
                name: name.clone(),
                registration: Some(registration),
            });
        let predefined = self.predefined.iter().map(|(id, name)| TopicView {
            id: *id,
            name: name.clone(),
            registration: None,
        });
        SessionView {
            status: self.status(),
            clean_session: self.connect.clean_session,
            keep_alive: self.connect.keep_alive,
            sleep: self.sleep_duration,
            waits_for: match &self.state {
                State::Connecting(Connecting::Will(_)) => Some(WaitsFor::Will),
                State::Connecting(Connecting::Upstream) => Some(WaitsFor::Broker),
                State::Connecting(Connecting::Store(_)) => Some(WaitsFor::Store),
                State::Disconnected
                | State::Lost
                | State::Active { .. }
                | State::Asleep
                | State::Awake(_) => None,
            },
            last_heard: instant(self.last_heard),
            due: self.due().map(instant),
            until: self.supervision(settings).map(instant),
            orphaned: self.orphaned,
            will: self.will.as_ref().map(|will| will.topic.clone()),
            topics: topics.chain(predefined).take(most).collect(),
            subscriptions: self.subscription_views().take(most).collect(),
            pending_subscriptions: self.requests.under_way(),
            queue: self.downlink.queue_views(epoch).take(most).collect(),
            uplink: self.uplink.views(epoch).take(most).collect(),
            exchange: self.downlink.exchange_view(epoch),
        }
    }

    /// Returns the names of the node's topics and filters of its subscriptions.
    pub fn topic_names(&self) -> impl Iterator<Item = &Arc<str>> {
        let registered = self.registry.iter().map(|(_, name, _)| name);
        let subscribed = self.subscriptions.iter().map(|known| &known.filter);
        let repeated = |filter: &&Arc<str>| self.registry.find(filter).is_none();
        registered.chain(subscribed.filter(repeated))
    }

    /// Returns how many topic ids are registered.
    pub fn topics(&self) -> usize {
        self.registry.len()
    }

    /// Returns when the node should be heard again by its own word, without tolerance.
    pub fn due(&self) -> Option<Moment> {
        let seconds = match self.state {
            State::Active { .. } => self.connect.keep_alive,
            State::Asleep => self.sleep_duration,
            State::Disconnected | State::Lost | State::Connecting(_) | State::Awake(_) => 0,
        };
        (seconds > 0).then(|| self.supervised_from + Duration::from_secs(u64::from(seconds)))
    }

    /// Returns the keep-alive in seconds, or the sleep duration of a node that sleeps.
    pub fn period(&self) -> u16 {
        match self.state {
            State::Asleep | State::Awake(_) => self.sleep_duration,
            State::Disconnected | State::Lost | State::Connecting(_) | State::Active { .. } => {
                self.connect.keep_alive
            }
        }
    }
}
