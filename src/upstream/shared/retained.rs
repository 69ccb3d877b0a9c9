//! Retained messages for those who ask [MQTT 3.1.1, 3.8.4], and for nobody else.
//!
//! A broker sends the retained messages of a filter after every SUBSCRIBE and marks them so. A node
//! that subscribes to what others have already makes the gateway subscribe again, and what comes
//! marked is for it alone. Nothing says which SUBSCRIBE a retained message answers, nor which is the
//! last; so a filter has one SUBSCRIBE at a time, a *round*, and the next begins when nothing has come
//! for a while. Everybody who asks in the meantime shares it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::subscriptions::FilterId;
use super::{Context, NodeKey, Shared};
use crate::moment::Moment;
use crate::upstream::{Event, RequestId};
use crate::wire::QoS;

/// How long after the last retained message a round ends, if somebody waits for the next one.
const QUIET: Duration = Duration::from_secs(1);

/// The rounds of one filter.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    askers: Askers,
    asks: Vec<Ask>,
    state: State,
    next_askers: Askers,
    next_asks: Vec<Ask>,
}

/// A node that waits for SUBACK.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) node: NodeKey,
    pub(super) id: RequestId,
    pub(super) qos: QoS,
    /// Whether it was no subscriber before.
    pub(super) new: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No round was begun.
    #[default]
    Idle,
    /// SUBSCRIBE is sent.
    Asked,
    /// Retained messages may still come.
    Answered {
        /// When it is over if none do.
        until: Moment,
    },
}

/// Who a round's retained messages are for.
#[derive(Debug, Default)]
enum Askers {
    #[default]
    Nobody,
    One(NodeKey),
    Many(BTreeSet<NodeKey>),
    Everybody,
}

impl Rounds {
    /// A node wants retained messages, and an answer if it asks for one.
    pub(super) fn want(&mut self, node: NodeKey, ask: Option<Ask>) {
        self.next_askers.insert(node);
        self.next_asks.extend(ask);
    }

    pub(super) fn leave(&mut self, node: NodeKey) {
        self.askers.remove(node);
        self.next_askers.remove(node);
        self.asks.retain(|ask| ask.node != node);
        self.next_asks.retain(|ask| ask.node != node);
    }

    /// What comes next is news to every subscriber: the broker had forgotten them.
    pub(super) fn everybody(&mut self) {
        self.askers = Askers::Everybody;
    }

    /// Whether a retained message of the present round is for a node.
    pub(super) fn wants(&self, node: NodeKey) -> bool {
        match &self.askers {
            Askers::Nobody => false,
            Askers::One(only) => *only == node,
            Askers::Many(nodes) => nodes.contains(&node),
            Askers::Everybody => true,
        }
    }

    pub(super) fn quiet_ends(&self) -> Option<Moment> {
        match self.state {
            State::Answered { until } if self.is_wanted() => Some(until),
            State::Idle | State::Asked | State::Answered { .. } => None,
        }
    }

    fn is_wanted(&self) -> bool {
        !matches!(self.next_askers, Askers::Nobody)
    }
}

impl Askers {
    fn insert(&mut self, node: NodeKey) {
        match self {
            Self::Nobody => *self = Self::One(node),
            Self::One(only) => *self = Self::Many([*only, node].into()),
            Self::Many(nodes) => {
                nodes.insert(node);
            }
            Self::Everybody => {}
        }
    }

    fn remove(&mut self, node: NodeKey) {
        match self {
            Self::Nobody | Self::Everybody => {}
            Self::One(only) => {
                if *only == node {
                    *self = Self::Nobody;
                }
            }
            Self::Many(nodes) => {
                nodes.remove(&node);
                if nodes.is_empty() {
                    *self = Self::Nobody;
                }
            }
        }
    }
}

impl Shared {
    /// Begins the next round of a filter.
    pub(super) fn begin_round(&mut self, filter: FilterId, cx: &mut Context<'_>) {
        let Some(known) = self.subscriptions.get_mut(filter) else {
            return;
        };
        let rounds = &mut known.rounds;
        rounds.askers = std::mem::take(&mut rounds.next_askers);
        rounds.asks = std::mem::take(&mut rounds.next_asks);
        rounds.state = State::Asked;
        let asked = rounds.asks.iter().map(|ask| ask.qos).max();
        known.asked = known.asked.max(asked.unwrap_or(QoS::AtMostOnce));
        self.send_subscribe(filter, cx);
    }

    /// Somebody wants another round: it begins when the present one is over.
    pub(super) fn continue_rounds(&mut self, filter: FilterId, cx: &mut Context<'_>) {
        let Some(known) = self.subscriptions.get_mut(filter) else {
            return;
        };
        match known.rounds.state {
            State::Answered { until } if until > cx.now => {
                self.subscriptions.quiet.insert((until, filter));
            }
            State::Idle | State::Answered { .. } => self.begin_round(filter, cx),
            State::Asked => {}
        }
    }

    pub(super) fn round_answered(
        &mut self,
        filter: FilterId,
        granted: Option<QoS>,
        cx: &mut Context<'_>,
    ) {
        let Some(known) = self.subscriptions.get_mut(filter) else {
            return;
        };
        let rounds = &mut known.rounds;
        rounds.state = State::Answered {
            until: cx.now + QUIET,
        };
        let mut answered = std::mem::take(&mut rounds.asks);
        let asked = known.asked;
        // Those who came since and ask for no more have their answer, too.
        answered.extend(rounds.next_asks.extract_if(.., |ask| ask.qos <= asked));
        let refused = granted.is_none();
        let lost = refused && known.granted.is_none();
        if refused {
            known.asked = known.granted.unwrap_or(asked);
            for ask in answered.iter().filter(|ask| ask.new) {
                known.subscribers.remove(&ask.node);
            }
        } else {
            known.granted = granted;
        }
        for ask in answered {
            if refused
                && ask.new
                && let Some(member) = self.members.get_mut(ask.node)
            {
                member.filters.retain(|known| *known != filter);
            }
            let granted = granted.map(|granted| granted.min(ask.qos));
            self.tell(
                ask.node,
                Event::Subscribed {
                    id: ask.id,
                    granted,
                },
            );
        }
        if lost {
            return self.refuse_filter(filter);
        }
        let Some(known) = self.subscriptions.get(filter) else {
            return;
        };
        if let Some(until) = known.rounds.quiet_ends() {
            self.subscriptions.quiet.insert((until, filter));
        }
    }

    /// A retained message came: the round is not over yet.
    pub(super) fn prolong(&mut self, filter: FilterId, now: Moment) {
        let Some(known) = self.subscriptions.get_mut(filter) else {
            return;
        };
        let State::Answered { until } = &mut known.rounds.state else {
            return;
        };
        let before = std::mem::replace(until, now + QUIET);
        let after = *until;
        if self.subscriptions.quiet.remove(&(before, filter)) {
            self.subscriptions.quiet.insert((after, filter));
        }
    }

    /// Begins the rounds that somebody waited for.
    pub(super) fn ask_again(&mut self, cx: &mut Context<'_>) {
        while let Some(&(until, filter)) = self.subscriptions.quiet.first()
            && until <= cx.now
        {
            self.subscriptions.quiet.pop_first();
            self.begin_round(filter, cx);
        }
    }
}
