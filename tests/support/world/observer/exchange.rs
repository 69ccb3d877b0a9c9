//! One exchange the gateway has under way to a node, and its repetitions.

use std::fmt;
use std::time::Duration;

use mqtt_sn_gateway::gateway::{LinkId, Settings};
use mqtt_sn_gateway::wire::{MsgId, QoS, ReturnCode};

use super::name_of;
use crate::violation::Rule;

/// What the gateway sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Register(String),
    Publish(Vec<u8>, QoS),
    Release,
}

/// An exchange and what was sent of it so far.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    kind: Kind,
    msg_id: MsgId,
    released: bool,
    last_sent: Duration,
    sendings: u32,
    /// Over all rounds and wake-ups.
    all_sendings: u32,
    prompted: bool,
    /// When it was sent out of turn; the timer may have started again with any of these.
    answers: Vec<Duration>,
    heard: bool,
    /// Sendings since the node was heard, whatever it said.
    unheard: u32,
    suspended: bool,
    /// The last repetition was asked for at a moment in which one was due anyhow: the round may be over.
    overdue: bool,
}

/// How long the gateway asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    retry: Duration,
    retries: u32,
    attempts: u32,
}

impl Patience {
    pub(super) fn on(link: LinkId, settings: &Settings) -> Self {
        let attempts = settings.session.delivery_attempts;
        let link = &settings.links[usize::from(link.0)];
        Self {
            retry: link.retry,
            retries: link.retries,
            attempts,
        }
    }
}

impl Patience {
    pub(super) fn retry(self) -> Duration {
        self.retry
    }

    pub(super) fn retries(self) -> u32 {
        self.retries
    }

    pub(super) fn attempts(self) -> u32 {
        self.attempts
    }
}

impl Exchange {
    pub(super) fn begin(now: Duration, kind: Kind, msg_id: MsgId) -> Self {
        Self {
            kind,
            msg_id,
            released: false,
            last_sent: now,
            sendings: 1,
            all_sendings: 1,
            prompted: false,
            answers: Vec::new(),
            heard: false,
            unheard: 1,
            suspended: false,
            overdue: false,
        }
    }

    /// The node woke up or connected: the count starts again, and the next repetition may come at once.
    pub(super) fn prompt(&mut self) {
        self.prompted = true;
    }

    /// The node sent something, whatever it is: it is not lost.
    pub(super) fn heard(&mut self) {
        self.heard = true;
        self.unheard = 0;
    }

    /// The node sleeps, or is connected anew: the gateway may begin with another exchange next time.
    pub(super) fn suspend(&mut self) {
        self.suspended = true;
    }

    pub(super) fn payload(&self) -> &[u8] {
        match &self.kind {
            Kind::Publish(payload, _) => payload,
            Kind::Register(_) | Kind::Release => &[],
        }
    }

    /// Returns the name a REGISTER offers.
    pub(super) fn topic(&self) -> Option<&str> {
        match &self.kind {
            Kind::Register(name) => Some(name),
            Kind::Publish(..) | Kind::Release => None,
        }
    }

    pub(super) fn is_register(&self, msg_id: MsgId) -> bool {
        matches!(self.kind, Kind::Register(_)) && self.msg_id == msg_id
    }

    /// Whether a PUBACK with this code ends the exchange; the positive answer at QoS 2 is PUBREC.
    pub(super) fn is_answered_by(&self, msg_id: MsgId, code: ReturnCode) -> bool {
        let Kind::Publish(_, qos) = self.kind else {
            return false;
        };
        let concerned = self.msg_id == msg_id && !self.released;
        concerned && !(code.is_accepted() && qos == QoS::ExactlyOnce)
    }

    pub(super) fn is_called(&self, msg_id: MsgId) -> bool {
        self.msg_id == msg_id
    }

    pub(super) fn is_released(&self, msg_id: MsgId) -> bool {
        self.released && self.msg_id == msg_id
    }

    /// The node's PUBREC: a QoS 2 exchange goes on with PUBREL. Returns whether it belongs here.
    pub(super) fn receive(&mut self, msg_id: MsgId, now: Duration) -> bool {
        if self.msg_id != msg_id || !matches!(self.kind, Kind::Publish(_, QoS::ExactlyOnce)) {
            return false;
        }
        if !self.released {
            self.released = true;
            self.sendings = 0;
            self.all_sendings = 0;
            self.last_sent = now;
            self.answers.clear();
        }
        self.prompted = true;
        true
    }

    pub(super) fn is_same(&self, kind: &Kind, msg_id: MsgId) -> bool {
        let same = match kind {
            Kind::Release => self.released,
            Kind::Register(_) | Kind::Publish(..) => !self.released && self.kind == *kind,
        };
        same && self.msg_id == msg_id
    }

    /// The gateway sends the same again.
    pub(super) fn repeat(
        &mut self,
        now: Duration,
        dup: bool,
        patience: Patience,
    ) -> Option<(Rule, String)> {
        let gap = now - self.last_sent;
        let first = self.sendings == 0;
        self.answers.retain(|at| now - *at < patience.retry);
        let prompted = std::mem::take(&mut self.prompted);
        let at_once = self.overdue && gap.is_zero();
        self.overdue = prompted && (at_once || gap >= patience.retry);
        if prompted {
            self.sendings = 0;
            self.answers.push(now);
        } else if gap < patience.retry && !first {
            let gap = gap.as_secs_f64();
            return Some((Rule::Retry, format!("repeated after {gap:.3} s")));
        } else {
            self.answers.clear();
        }
        self.sendings += 1;
        self.all_sendings += 1;
        if gap >= patience.retry || first {
            self.last_sent = self.answers.first().copied().unwrap_or(now);
        }
        self.suspended = false;
        self.unheard += 1;
        if self.sendings > self.allowed(patience) {
            return Some((Rule::Retry, format!("sent {} times", self.sendings)));
        }
        let publish = matches!(self.kind, Kind::Publish(..)) && !self.released;
        (publish && !dup).then(|| (Rule::Dup, "a repetition without DUP".to_owned()))
    }

    /// Returns the exchange as a reason why no other may begin yet.
    pub(super) fn may_be_left(&self, now: Duration, patience: Patience) -> Option<&Self> {
        (!self.is_exhausted(now, patience) && !self.suspended).then_some(self)
    }

    /// Whether the node was asked as often as it has to be.
    pub(super) fn is_exhausted(&self, now: Duration, patience: Patience) -> bool {
        let round = patience.retries + 1;
        // At a sleeper each wake-up begins a round of its own.
        let silent = self.sendings >= round || self.all_sendings >= 2 * round;
        silent && (self.overdue || now >= self.last_sent + patience.retry)
    }

    /// A node that is heard from is asked in further rounds; in the last of them it may be silent (I-24).
    fn allowed(&self, patience: Patience) -> u32 {
        let round = patience.retries + 1;
        if self.heard && self.unheard <= 2 * round {
            patience.attempts * round
        } else {
            round
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.msg_id;
        match &self.kind {
            Kind::Register(name) => write!(f, "REGISTER of {name}, MsgId {id},"),
            Kind::Publish(payload, qos) => write!(
                f,
                "PUBLISH of {} at QoS {qos}, MsgId {id},",
                name_of(payload)
            ),
            Kind::Release => write!(f, "PUBREL, MsgId {id},"),
        }
    }
}
