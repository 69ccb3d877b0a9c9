//! CONNECT and what follows: Will handshake, broker, CONNACK [S 6.2, 6.3].
//!
//! What a CONNECT says counts from its acceptance on. A node that is refused, or never answers what it
//! is asked, leaves what is kept for its client id as it was.

use std::sync::Arc;
use std::time::Duration;

use super::subscribe::SubscriptionRequests;
use super::will::WillQuestion;
use super::{Context, Established, Keeping, Promise, Session, State, Trouble};
use crate::moment::Moment;
use crate::topics::Registry;
use crate::upstream::{ConnectOptions, Refusal, Request, Will};
use crate::wire::{Packet, ReturnCode};

/// What a CONNECT says; two with the same content may be one repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectContent {
    /// Whether the node wants to be prompted for a Will.
    pub will: bool,
    /// Whether earlier subscriptions and Will are deleted.
    pub clean_session: bool,
    /// Keep-alive in seconds; 0 is none (I-13).
    pub keep_alive: u16,
}

impl Default for ConnectContent {
    fn default() -> Self {
        Self {
            will: false,
            clean_session: true,
            keep_alive: 0,
        }
    }
}

/// What a CONNECT changes, as it was before.
#[derive(Debug)]
pub(super) struct Before {
    connect: ConnectContent,
    will: Option<Arc<Will>>,
    unkept: Promise,
}

/// How long CONNACK waits for the store at most; a disk that takes longer is as good as none.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// A CONNACK that may have been lost on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    at: Moment,
}

/// What a CONNECT waits for.
#[derive(Debug)]
pub(super) enum Connecting {
    /// The node's answer.
    Will(Box<WillQuestion>),
    /// The broker's; the connection to it has its own time limit.
    Upstream,
    /// The store's, which is to have the Will first, or the end of the session before.
    Store(Box<Held>),
}

/// A CONNACK that waits for the store.
#[derive(Debug)]
pub(super) struct Held {
    promise: Promise,
    until: Moment,
}

impl Connecting {
    pub(super) fn due(&self) -> Option<Moment> {
        match self {
            Self::Will(question) => Some(question.due()),
            Self::Upstream => None,
            Self::Store(held) => Some(held.until),
        }
    }
}

impl Session {
    /// Takes a CONNECT of the node. `moved` says that it came from another address than the one the
    /// session was bound to.
    pub fn handle_connect(&mut self, content: ConnectContent, moved: bool, cx: &mut Context<'_>) {
        let repeated = content == self.connect && !moved;
        let answered = self.answered;
        self.heard(cx.now);
        match &mut self.state {
            State::Connecting(connecting) if repeated => {
                cx.stats.duplicates += 1;
                if let Connecting::Will(question) = connecting {
                    question.ask(cx);
                }
            }
            State::Active { .. }
                if repeated && answered.is_some_and(|answered| answered.is_fresh(cx)) =>
            {
                self.repeat_connack(answered, cx);
            }
            State::Asleep | State::Awake(_)
                if !cx.settings.honour_sleep_connect && self.established.is_some() =>
            {
                self.accept(cx);
            }
            State::Disconnected
            | State::Lost
            | State::Connecting(_)
            | State::Active { .. }
            | State::Asleep
            | State::Awake(_) => self.begin(content, moved, cx),
        }
    }

    fn begin(&mut self, content: ConnectContent, moved: bool, cx: &mut Context<'_>) {
        let wakes = matches!(self.state, State::Asleep | State::Awake(_)) && !moved;
        self.fall_back();
        self.before = Some(Box::new(Before {
            connect: self.connect,
            will: self.will.clone(),
            unkept: self.unkept,
        }));
        let begins_to_last = !content.clean_session && self.connect.clean_session;
        let ends_for_good = content.clean_session && self.is_persistent();
        if ends_for_good || begins_to_last && self.has_something_to_keep() {
            self.note_unkept();
        }
        self.connect = content;
        self.orphaned = false;
        self.will_update = None;
        self.downlink.interrupt();
        if content.clean_session {
            self.will = None;
        } else if self.registry.is_empty() {
            self.registry = Registry::starting_at(cx.rng.u16(1..=0xfffe));
        }
        if content.clean_session || !wakes {
            self.requests = SubscriptionRequests::default();
            self.registry.unconfirm_all();
        }
        if content.will {
            let mut question = WillQuestion::topic(cx);
            question.ask(cx);
            self.state = State::Connecting(Connecting::Will(Box::new(question)));
        } else {
            self.establish(cx);
        }
    }

    /// Continues with the broker once the Will is known.
    pub(super) fn establish(&mut self, cx: &mut Context<'_>) {
        let wanted = Established {
            clean_session: self.connect.clean_session,
            will: self.will.clone(),
        };
        if !wanted.clean_session && self.established.as_ref() == Some(&wanted) {
            self.accept(cx);
            return;
        }
        if wanted.clean_session {
            // So does its connection.
            self.uplink.clear();
            self.drop_waiting(cx);
        }
        self.state = State::Connecting(Connecting::Upstream);
        self.established = None;
        self.request_connection(wanted, cx);
    }

    /// Whether the broker is asked for a clean session: what comes is of the one before.
    pub(super) fn begins_anew(&self) -> bool {
        matches!(self.state, State::Connecting(Connecting::Upstream)) && self.connect.clean_session
    }

    /// Whether there is nothing to come back to for the broker's messages.
    pub(super) fn ends_with_connection(&self) -> bool {
        let before = self.before.as_ref().map(|before| before.connect);
        before.unwrap_or(self.connect).clean_session
    }

    /// The CONNECT under way is not accepted: it is as if it had never come.
    pub(super) fn fall_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.connect = before.connect;
            self.will = before.will;
            self.unkept = before.unkept;
        }
    }

    /// Asks the broker for a connection in place of the one there is.
    pub(super) fn request_connection(&mut self, wanted: Established, cx: &mut Context<'_>) {
        cx.requests.push(Request::Connect(ConnectOptions {
            client_id: self.client_id.clone(),
            clean_session: wanted.clean_session,
            will: wanted.will.clone(),
        }));
        self.requested = Some(wanted);
    }

    pub(super) fn handle_connected(&mut self, session_present: bool, cx: &mut Context<'_>) {
        if self.is_over() {
            cx.requests.push(Request::Disconnect);
            return;
        }
        let is_awaited = matches!(self.state, State::Connecting(Connecting::Upstream));
        if self.begins_anew() {
            self.forget();
        }
        self.established.clone_from(&self.requested);
        self.downlink.note_connected(session_present);
        if !session_present {
            self.resubscribe(cx);
            self.release_forgotten(cx);
        }
        if is_awaited {
            tracing::info!(
                node = &*self.client_id,
                keep_alive = self.connect.keep_alive,
                clean = self.connect.clean_session,
                "connected"
            );
            self.accept(cx);
        }
        self.finish_will_update(cx);
    }

    pub(super) fn handle_connect_refused(&mut self, refusal: Refusal, cx: &mut Context<'_>) {
        let code = match refusal {
            Refusal::Unavailable => ReturnCode::Congestion,
            Refusal::Protocol
            | Refusal::Identifier
            | Refusal::Credentials
            | Refusal::NotAuthorised => ReturnCode::NotSupported,
        };
        cx.stats.rejections += 1;
        cx.note(Trouble::Broker(refusal));
        cx.send(&Packet::ConnAck { code });
        self.end(State::Disconnected, Request::Abandon, cx);
    }

    pub(super) fn handle_connecting_timeout(&mut self, cx: &mut Context<'_>) {
        match &mut self.state {
            State::Connecting(Connecting::Will(question)) if question.is_open(cx) => {
                question.repeat(cx);
            }
            State::Connecting(Connecting::Will(_)) => {
                tracing::debug!(node = &*self.client_id, "handshake abandoned");
                self.end(State::Disconnected, Request::Abandon, cx);
            }
            State::Connecting(Connecting::Store(_)) => self.refuse_unkept(Request::Disconnect, cx),
            State::Connecting(Connecting::Upstream)
            | State::Disconnected
            | State::Lost
            | State::Active { .. }
            | State::Asleep
            | State::Awake(_) => {}
        }
    }

    fn accept(&mut self, cx: &mut Context<'_>) {
        let is_kept = self.unkept.is_none() || cx.keeping_will == Keeping::Elsewhere;
        if !is_kept && self.cannot_promise(cx.keeping_will) {
            return self.refuse_unkept(Request::Disconnect, cx);
        }
        self.before = None;
        if is_kept {
            self.welcome(cx);
        } else {
            let held = Held {
                promise: self.next_promise(),
                until: cx.now + STORE_PATIENCE,
            };
            self.state = State::Connecting(Connecting::Store(Box::new(held)));
        }
    }

    /// Answers the CONNECT that waited for the store, if there is one.
    pub(super) fn give_connack(&mut self, up_to: Promise, cx: &mut Context<'_>) {
        if let State::Connecting(Connecting::Store(held)) = &self.state
            && held.promise.is_kept(up_to)
        {
            self.welcome(cx);
        }
    }

    /// Says that the store has no room, or has failed: a node whose CONNACK waits for it shall come again.
    /// One that only ends a session waits on: that needs no room.
    pub fn handle_full_store(&mut self, cx: &mut Context<'_>) {
        if self.awaits_store() && self.cannot_promise(cx.keeping_will) {
            self.refuse_unkept(Request::Disconnect, cx);
        }
    }

    /// The store cannot take what the node wants kept.
    pub(super) fn refuse_unkept(&mut self, upstream: Request, cx: &mut Context<'_>) {
        cx.stats.rejections += 1;
        cx.note(Trouble::NotKept);
        cx.send(&Packet::ConnAck {
            code: ReturnCode::Congestion,
        });
        self.end(State::Disconnected, upstream, cx);
    }

    fn welcome(&mut self, cx: &mut Context<'_>) {
        self.state = State::Active { probe_until: None };
        self.supervised_from = cx.now;
        self.answered = Some(Answered { at: cx.now });
        cx.send(&Packet::ConnAck {
            code: ReturnCode::Accepted,
        });
        self.resume_downlink(cx);
        self.give_subscription_answers(Promise::NONE, cx);
    }

    pub(super) fn repeat_connack(&mut self, answered: Option<Answered>, cx: &mut Context<'_>) {
        cx.stats.duplicates += 1;
        self.answered = answered;
        cx.send(&Packet::ConnAck {
            code: ReturnCode::Accepted,
        });
    }

    fn has_something_to_keep(&self) -> bool {
        self.will.is_some() || !self.subscriptions.is_empty()
    }

    /// Deletes what earlier sessions left to a clean one.
    fn forget(&mut self) {
        self.registry = Registry::default();
        self.predefined.clear();
        self.uses_short_names = false;
        self.subscriptions.clear();
        self.downlink.forget_sent();
    }
}

impl Answered {
    /// Whether the node may still be repeating what this answered (I-02).
    pub(super) fn is_fresh(self, cx: &Context<'_>) -> bool {
        cx.now.duration_since(self.at) <= cx.link.retry * (cx.link.retries + 1)
    }
}
