//! Why a node does not come through: the way of a message, step by step, until it is stuck.

use axum::Json;
use axum::extract::{Path, State as Extracted};
use serde::Serialize;

use super::routes::{Problem, State, link_name};
use crate::clock::{Clock, in_words};
use crate::daemon::{LinkState, Owner};
use crate::gateway::{NodeView, Peer, Refused, RefusedReason, Settings};
use crate::session::{Status, SubscriptionView, Trouble, WaitsFor};
use crate::stats::Drop;
use crate::topics::{Registration, filter_matches};

/// Subscriptions explained one by one.
const SUBSCRIPTIONS_MAX: usize = 20;

/// The whole explanation.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    client_id: String,
    now: f64,
    /// Whether messages come through, as far as the gateway can tell.
    ok: bool,
    /// In one sentence.
    verdict: String,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    state: StepState,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum StepState {
    /// Nothing wrong here.
    Ok,
    /// It works, but is worth a look.
    Notice,
    /// Here it is stuck.
    Stuck,
}

pub(super) async fn explain(
    Extracted(state): Extracted<State>,
    Path(client_id): Path<String>,
) -> Result<Json<Explanation>, Problem> {
    let broker = state.surroundings().broker.clone();
    let answer = state.ask(move |owner| {
        let clock = Clock::now();
        Explainer::new(owner, &client_id, &clock, &broker).explain()
    });
    Ok(Json(answer.await?))
}

struct Explainer<'a> {
    owner: &'a Owner<'a>,
    settings: &'a Settings,
    links: Vec<LinkState>,
    client_id: &'a str,
    clock: &'a Clock,
    broker: &'a str,
    steps: Vec<Step>,
}

impl<'a> Explainer<'a> {
    fn new(owner: &'a Owner<'a>, client_id: &'a str, clock: &'a Clock, broker: &'a str) -> Self {
        Self {
            owner,
            settings: owner.gateway.settings(),
            links: owner.links(),
            client_id,
            clock,
            broker,
            steps: Vec::new(),
        }
    }

    fn explain(mut self) -> Explanation {
        let node = self.owner.gateway.node(self.client_id);
        match &node {
            Some(node) => self.known(node),
            None => self.unknown(),
        }
        let stuck = self
            .steps
            .iter()
            .find(|step| step.state == StepState::Stuck);
        let notice = || {
            self.steps
                .iter()
                .find(|step| step.state == StepState::Notice)
        };
        let verdict = match stuck.or_else(notice) {
            Some(step) => step.text.clone(),
            None => "messages come through, as far as the gateway can tell".to_owned(),
        };
        Explanation {
            client_id: self.client_id.to_owned(),
            now: self.clock.unix(self.owner.now),
            ok: stuck.is_none(),
            verdict,
            steps: self.steps,
        }
    }

    fn known(&mut self, node: &NodeView) {
        self.link(
            usize::from(node.summary.link.0),
            StepState::Stuck,
            StepState::Notice,
        );
        self.address(node);
        self.allow_list();
        self.session(node);
        self.subscriptions(node);
        self.registration(node);
        self.queue(node);
        self.uplink(node);
        self.troubles(node);
        self.broker(Some(node));
    }

    fn say(&mut self, step: &'static str, state: StepState, text: impl Into<String>) {
        self.advise(step, state, text, None);
    }

    fn advise(
        &mut self,
        step: &'static str,
        state: StepState,
        text: impl Into<String>,
        advice: Option<String>,
    ) {
        let text = text.into();
        self.steps.push(Step {
            step,
            state,
            text,
            advice,
        });
    }

    fn link(&mut self, index: usize, down: StepState, silent: StepState) {
        let name = link_name(self.settings, index);
        let counters = self.owner.gateway.link_counters().get(index);
        let heard = counters.and_then(|counters| counters.last_heard);
        let link = self.links.get(index);
        // What was damaged on the way, and what arrived whole and is of no use.
        let damaged = link.map_or(0, LinkState::damaged);
        let useless = counters.map_or(0, |counters| counters.bad);
        let bad = match (damaged, useless) {
            (0, 0) => String::new(),
            (damaged, 0) => format!("; {damaged} octets on it were damaged"),
            (0, useless) => format!("; {useless} datagrams on it were of no use"),
            (damaged, useless) => {
                format!("; {damaged} octets on it were damaged, {useless} datagrams of no use")
            }
        };
        match (link.is_none_or(|link| link.up), heard) {
            (false, _) => self.advise(
                "link",
                down,
                format!("link {name} is down"),
                Some("Look at the log: it says what the port lacks. The gateway goes on as soon as it is back.".into()),
            ),
            (true, None) => self.advise(
                "link",
                silent,
                format!("link {name} is up, but nothing was ever heard on it{bad}"),
                Some(match damaged {
                    0 => "Check address and port in the node, the firewall, or the radio's channel and network id.",
                    _ => "Something speaks there, but not in this framing or at this speed: see framing and baud, or try mqtt-sn-gateway probe.",
                }.into()),
            ),
            (true, Some(at)) => {
                let ago = in_words(self.clock.ago(at));
                self.say("link", StepState::Ok, format!("link {name} is up, last heard {ago} ago{bad}"));
            }
        }
    }

    fn address(&mut self, node: &NodeView) {
        let heard = in_words(self.clock.ago(node.summary.last_heard));
        match &node.summary.peer {
            Some(peer) => {
                let signal = node.summary.signal;
                let signal =
                    signal.map_or_else(String::new, |signal| format!(" at {} dBm", signal.dbm));
                let text = format!("at {peer}, last heard {heard} ago{signal}");
                self.say("address", StepState::Ok, text);
            }
            None => {
                let text = format!("no address: it is not connected, last heard {heard} ago");
                self.say("address", StepState::Notice, text);
            }
        }
        // What was refused before it came into the state it is in does not matter any more.
        if let Some(refused) = self
            .refused()
            .filter(|refused| refused.at >= node.summary.since)
        {
            self.refusal(&refused, StepState::Notice, node.summary.peer.as_ref());
        }
    }

    fn refused(&self) -> Option<Refused> {
        let mut refused = self.owner.gateway.refused();
        refused
            .find(|refused| *refused.client_id == *self.client_id)
            .cloned()
    }

    fn refusal(&mut self, refused: &Refused, state: StepState, bound: Option<&Peer>) {
        let times = match refused.times {
            1 => String::new(),
            times => format!(", {times} times"),
        };
        let link = link_name(self.settings, usize::from(refused.peer.link.0));
        let text = format!(
            "CONNECT from {} on link {link} was refused {} ago{times}: {}",
            refused.peer,
            in_words(self.clock.ago(refused.at)),
            refused.reason.words()
        );
        let advice = match (refused.reason, bound) {
            (RefusedReason::BoundElsewhere, Some(bound)) => {
                let own = link_name(self.settings, usize::from(bound.link.0));
                Some(format!(
                    "It is at {bound} on link {own}. If that node was moved here, disconnect it there first \
                     (mqtt-sn-gateway kick) or set takeover of link {link}; if these are two nodes, give each an id of its own."
                ))
            }
            (reason, _) => reason.advice(self.client_id),
        };
        let step = match refused.reason {
            RefusedReason::Broker(_) => "broker",
            RefusedReason::Protocol
            | RefusedReason::Malformed
            | RefusedReason::NotAllowed
            | RefusedReason::BoundElsewhere
            | RefusedReason::Full => "allow-list",
        };
        self.advise(step, state, text, advice);
    }

    fn is_listed(&self) -> bool {
        let allowed = self.settings.allowed_clients.as_ref();
        allowed.is_none_or(|patterns| patterns.iter().any(|p| p.matches(self.client_id)))
    }

    fn allow_list(&mut self) {
        if self.is_listed() {
            let text = match self.settings.allowed_clients {
                None => "any client may connect",
                Some(_) => "the client id is in clients.allow",
            };
            self.say("allow-list", StepState::Ok, text);
            return;
        }
        let permitted = self.owner.gateway.permitted();
        let open = permitted.filter(|(until, _)| *until > self.owner.now);
        let (state, text) = match open {
            Some((until, _)) => (
                StepState::Notice,
                format!(
                    "not in clients.allow, but any client may connect until {}",
                    self.clock.time_of_day(until)
                ),
            ),
            None => (
                StepState::Stuck,
                "the client id is not in clients.allow".to_owned(),
            ),
        };
        let advice = RefusedReason::NotAllowed.advice(self.client_id);
        self.advise("allow-list", state, text, advice);
    }

    fn session(&mut self, node: &NodeView) {
        let since = self.clock.time_of_day(node.summary.since);
        let waiting = match node.summary.queued {
            0 => String::new(),
            1 => ", 1 message waits".to_owned(),
            count => format!(", {count} messages wait"),
        };
        let session = &node.session;
        let due = session.due.map(|at| (at, self.clock.time_of_day(at)));
        match node.summary.status {
            Status::Active => {
                let keep_alive = session.keep_alive;
                if due.is_some_and(|(at, _)| at < self.owner.now) {
                    let silent = in_words(self.clock.ago(node.summary.last_heard));
                    let text = format!("active since {since}, but silent for {silent}, longer than its keep-alive of {keep_alive} s");
                    let advice = "The gateway asks it by PINGREQ; if it does not answer it is lost.";
                    self.advise("session", StepState::Notice, text, Some(advice.into()));
                } else {
                    let text = format!("active since {since}, keep-alive {keep_alive} s");
                    self.say("session", StepState::Ok, text);
                }
            }
            Status::Asleep => {
                let (state, due) = match due {
                    Some((at, due)) if at < self.owner.now => {
                        (StepState::Stuck, format!(", was due {due}"))
                    }
                    Some((_, due)) => (StepState::Notice, format!(", due {due}")),
                    None => (StepState::Notice, String::new()),
                };
                let advice = (state == StepState::Stuck).then(|| {
                    let text = "The node overslept: its battery, its clock, or the way to it.";
                    text.to_owned()
                });
                self.advise("session", state, format!("asleep since {since}{due}{waiting}"), advice);
                if session.orphaned {
                    let text = "the broker ended its session; the node is told when it wakes up";
                    self.say("session", StepState::Notice, text);
                }
            }
            Status::Awake => {
                self.say("session", StepState::Ok, format!("awake since {since}{waiting}"));
            }
            Status::Connecting => {
                let waits_for = session.waits_for.map_or("something", WaitsFor::words);
                let text = format!("connecting since {since}, waits for {waits_for}");
                self.say("session", StepState::Stuck, text);
            }
            Status::Lost => self.advise(
                "session",
                StepState::Stuck,
                format!("lost since {since}: it was silent longer than it promised"),
                Some("Power, range, or a keep-alive shorter than the pause between two packets. It has to connect again.".into()),
            ),
            Status::Disconnected => self.advise(
                "session",
                StepState::Stuck,
                format!("disconnected since {since}"),
                Some("The node has to connect again; a node that only sleeps says how long.".into()),
            ),
        }
    }

    fn subscriptions(&mut self, node: &NodeView) {
        if node.session.pending_subscriptions > 0 {
            let count = node.session.pending_subscriptions;
            let text = format!("{count} SUBSCRIBE or UNSUBSCRIBE wait for the broker's answer");
            self.say("subscription", StepState::Notice, text);
        }
        if node.session.subscriptions.is_empty() {
            let text = "no subscription: nothing is sent to it";
            self.say("subscription", StepState::Ok, text);
        }
        for subscription in node.session.subscriptions.iter().take(SUBSCRIPTIONS_MAX) {
            self.subscription(subscription, node);
        }
    }

    /// Says what came of the last message of a subscription.
    fn subscription(&mut self, subscription: &SubscriptionView, node: &NodeView) {
        let filter = &subscription.filter;
        let begin = format!(
            "subscribed to {filter}, broker has accepted at QoS {}",
            subscription.qos
        );
        let dropped = node.troubles.iter().rev().find_map(|(at, trouble)| {
            if let Trouble::Dropped {
                reason,
                topic,
                octets,
                carries,
            } = trouble
                && filter_matches(filter, topic.as_str())
            {
                Some((*at, *reason, *octets, *carries))
            } else {
                None
            }
        });
        let last = node.last_message.as_ref();
        let last = last
            .filter(|(_, topic)| filter_matches(filter, topic))
            .map(|(at, _)| *at);
        match (dropped, last) {
            (Some((at, reason, octets, carries)), last) if last.is_none_or(|last| last <= at) => {
                let ago = in_words(self.clock.ago(at));
                let why = if reason == Drop::TooLarge {
                    format!("{octets} bytes, link carries {carries}")
                } else {
                    reason.words().to_owned()
                };
                let text = format!("{begin}; last message on it {ago} ago, dropped: {why}");
                let advice = (reason == Drop::TooLarge).then(|| "Shorten the payload.".to_owned());
                self.advise("subscription", StepState::Stuck, text, advice);
            }
            (_, Some(at)) => {
                let ago = in_words(self.clock.ago(at));
                let text = format!("{begin}; last message on it {ago} ago");
                self.say("subscription", StepState::Ok, text);
            }
            (_, None) => {
                let text = format!("{begin}; no message on it lately");
                self.say("subscription", StepState::Ok, text);
            }
        }
    }

    fn registration(&mut self, node: &NodeView) {
        let with = |wanted: Registration| {
            let topics = node.session.topics.iter();
            topics.filter(move |topic| topic.registration == Some(wanted))
        };
        let refused: Vec<_> = with(Registration::Refused)
            .map(|topic| &*topic.name)
            .take(5)
            .collect();
        if !refused.is_empty() {
            self.advise(
                "registration",
                StepState::Stuck,
                format!("the node refused the topic {}", refused.join(", ")),
                Some(
                    "Its topic table may be full. It is asked again when it connects anew.".into(),
                ),
            );
        }
        let (known, all) = (with(Registration::Known).count(), node.session.topics.len());
        let text = format!("{all} topics have an id, the node knows {known} of them");
        self.say("registration", StepState::Ok, text);
    }

    fn queue(&mut self, node: &NodeView) {
        if let Some(exchange) = &node.session.exchange
            && exchange.repeats > 0
        {
            let ago = in_words(self.clock.ago(exchange.since));
            self.advise(
                "queue",
                StepState::Stuck,
                format!(
                    "{} (msg {}) is not answered for {ago}, sent {} times",
                    exchange.packet,
                    exchange.msg_id,
                    exchange.repeats + 1
                ),
                Some("The node does not hear the gateway, or its answers are lost: signal, or a firewall that lets only one way through.".into()),
            );
        }
        let Some(oldest) = node.session.queue.first() else {
            self.say("queue", StepState::Ok, "no message waits");
            return;
        };
        let ago = in_words(self.clock.ago(oldest.since));
        let count = node.summary.queued;
        let text = format!("{count} wait, the oldest on {} for {ago}", oldest.topic);
        self.say("queue", StepState::Notice, text);
    }

    fn uplink(&mut self, node: &NodeView) {
        let Some(oldest) = node.session.uplink.first() else {
            return;
        };
        let count = node.session.uplink.len();
        let ago = in_words(self.clock.ago(oldest.since));
        let text =
            format!("{count} messages of the node wait for the broker, the oldest for {ago}");
        self.say("uplink", StepState::Notice, text);
    }

    fn troubles(&mut self, node: &NodeView) {
        let Some((at, trouble)) = node.troubles.last() else {
            return;
        };
        let ago = in_words(self.clock.ago(*at));
        let text = format!("last trouble {ago} ago: {trouble}");
        let advice = trouble.advice(self.client_id);
        self.advise("troubles", StepState::Notice, text, advice);
    }

    /// Explains what waits for the broker in the store.
    fn outbox(&mut self) {
        let Some(queue) = self.owner.gateway.outbox() else {
            return;
        };
        if queue.is_full && !queue.up {
            let text = "the store is full and the broker away: what goes by way of the store is not acknowledged";
            let advice = "Start the broker, or raise store.max.".to_owned();
            self.advise("store", StepState::Stuck, text, Some(advice));
        } else if let Some(oldest) = queue.oldest {
            let since = self.clock.time_of_day(oldest);
            let count = queue.messages;
            let text = format!(
                "{count} messages of all nodes wait for the broker in the store, since {since}"
            );
            self.say("store", StepState::Notice, text);
        }
    }

    fn broker(&mut self, node: Option<&NodeView>) {
        self.outbox();
        let broker = self.owner.gateway.broker();
        if !broker.up {
            let since = broker.since.map(|at| self.clock.time_of_day(at));
            let since = since.map_or_else(String::new, |since| format!(" since {since}"));
            self.advise(
                "broker",
                StepState::Stuck,
                format!("the broker {} is not reached{since}", self.broker),
                Some("Is it running, and is broker.url right? Mosquitto 2 needs 'listener 1883' and 'allow_anonymous true', or broker.user and broker.password.".into()),
            );
            return;
        }
        let over = |status| matches!(status, Status::Disconnected | Status::Lost);
        match node {
            // Before its Will is complete nothing is asked of the broker.
            Some(node)
                if !node.summary.broker
                    && !over(node.summary.status)
                    && node.session.waits_for != Some(WaitsFor::Will) =>
            {
                let text = "the broker is reached, but the connection for this node does not stand";
                self.say("broker", StepState::Stuck, text);
            }
            _ => {
                let text = format!("the broker {} is reached", self.broker);
                self.say("broker", StepState::Ok, text);
            }
        }
    }

    /// Explains a client id that has no session.
    fn unknown(&mut self) {
        let refused = self.refused();
        let counters = self.owner.gateway.link_counters();
        let links = self.links.iter().zip(counters);
        // As long as one link carries something, what is wrong with another need not be this node's fault.
        let nowhere = links
            .clone()
            .all(|(link, counters)| !link.up || counters.last_heard.is_none());
        let wrong = if nowhere {
            StepState::Stuck
        } else {
            StepState::Notice
        };
        for index in 0..self.settings.links.len() {
            self.link(index, wrong, wrong);
        }
        self.stranger();
        match refused {
            Some(refused) => self.refusal(&refused, StepState::Stuck, None),
            None => {
                self.allow_list();
                let alike = self.alike();
                let advice = match alike {
                    Some(alike) => format!("Is {alike:?} meant?"),
                    None => "Is the node on, on this link's address and port (or channel and network id), and is this its client id?".to_owned(),
                };
                self.advise(
                    "session",
                    StepState::Stuck,
                    "this client id has never been heard, or its session is forgotten",
                    Some(advice),
                );
            }
        }
        self.broker(None);
    }

    /// Names who speaks without a session: it may be this node, which does not know that it has none.
    fn stranger(&mut self) {
        let Some(peer) = self.owner.gateway.last_stranger() else {
            return;
        };
        let link = link_name(self.settings, usize::from(peer.link.0));
        let text = format!("{peer} on link {link} sends packets, but has no session");
        let advice = "It may be this node: after a DISCONNECT, or when its packets are not answered, it has to send CONNECT.";
        self.advise("address", StepState::Notice, text, Some(advice.into()));
    }

    /// Returns a known client id that is nearly the same.
    fn alike(&self) -> Option<String> {
        let similar = |id: &str| strsim::osa_distance(id, self.client_id);
        let nodes = self.owner.gateway.nodes().take(2000);
        let nodes = nodes.map(|node| node.client_id);
        let nearest = nodes.map(|id| (similar(&id), id)).min()?;
        (nearest.0 <= 2).then(|| nearest.1.to_string())
    }
}
