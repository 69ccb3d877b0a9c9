//! One exchange the gateway has under way to a node, and its repetitions.

use std::fmt;
use std::time::Duration;

use mqtt_sn_gateway::gateway::LinkSettings;
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
    prompted: bool,
    heard: bool,
    suspended: bool,
}

impl Exchange {
    pub(super) fn begin(now: Duration, kind: Kind, msg_id: MsgId) -> Self {
        Self {
            kind,
            msg_id,
            released: false,
            last_sent: now,
            sendings: 1,
            prompted: false,
            heard: false,
            suspended: false,
        }
    }

    /// The node woke up or connected: the count starts again, and the next repetition may come at once.
    pub(super) fn prompt(&mut self) {
        self.prompted = true;
    }

    /// The node sent something, whatever it is: it is not lost.
    pub(super) fn heard(&mut self) {
        self.heard = true;
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

    /// Whether a PUBACK with this code says nothing: at QoS 2 the positive answer is PUBREC.
    pub(super) fn awaits_pubrec(&self, code: ReturnCode) -> bool {
        code.is_accepted() && matches!(self.kind, Kind::Publish(_, QoS::ExactlyOnce))
    }

    pub(super) fn is_publish(&self, msg_id: MsgId) -> bool {
        matches!(self.kind, Kind::Publish(..)) && self.msg_id == msg_id && !self.released
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
            self.last_sent = now;
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
        link: &LinkSettings,
    ) -> Option<(Rule, String)> {
        let gap = now - self.last_sent;
        let first = self.sendings == 0;
        if std::mem::take(&mut self.prompted) {
            // An answer out of turn; whether the timer starts again with it is left open.
            self.sendings = 0;
        } else if gap < link.retry && !first {
            let gap = gap.as_secs_f64();
            return Some((Rule::Retry, format!("repeated after {gap:.3} s")));
        }
        self.sendings += 1;
        if gap >= link.retry || first {
            self.last_sent = now;
        }
        self.suspended = false;
        if self.sendings > self.allowed(link) {
            return Some((Rule::Retry, format!("sent {} times", self.sendings)));
        }
        let publish = matches!(self.kind, Kind::Publish(..)) && !self.released;
        (publish && !dup).then(|| (Rule::Dup, "a repetition without DUP".to_owned()))
    }

    /// Returns the exchange as a reason why no other may begin yet.
    pub(super) fn may_be_left(&self, now: Duration, link: &LinkSettings) -> Option<&Self> {
        let exhausted = self.sendings > link.retries && now >= self.last_sent + link.retry;
        (!exhausted && !self.suspended).then_some(self)
    }

    /// A node that is heard from meanwhile gets a second round (I-24).
    fn allowed(&self, link: &LinkSettings) -> u32 {
        let round = link.retries + 1;
        if self.heard { 2 * round } else { round }
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
