//! Answers to senders without a session (I-04).

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::FixedState;

use super::{Core, Peer, Route, Target};
use crate::moment::Moment;
use crate::wire::Packet;

/// A stranger is answered once in this time.
const PAUSE: Duration = Duration::from_secs(5);
/// Places to remember the last answer in; two strangers that share one just get more answers.
const PLACES: usize = 1024;

/// Refuses strangers by DISCONNECT, so that nodes recover at their next word after the gateway was
/// restarted. Sources can be forged: an answer is never longer than the question, goes to a source
/// once in a while, and to all of them together within a budget. Nothing is kept a stranger.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Made with the first stranger, from the gateway's seed.
    hasher: Option<FixedState>,
    answered: Vec<Option<(u64, Moment)>>,
    tokens: f64,
    refilled: Option<Moment>,
    last: Option<Peer>,
}

impl Strangers {
    /// Tells a sender that it has no session, if it wants to know.
    pub(super) fn refuse(
        &mut self,
        now: Moment,
        peer: Peer,
        route: Route,
        packet: &Packet<'_>,
        core: &mut Core,
    ) {
        self.last = Some(peer.clone());
        if wants_answer(packet) && self.may_answer(now, &peer, core) {
            core.send_packet(
                Target::Peer(peer, route),
                Packet::Disconnect { duration: None },
            );
        }
    }

    /// Returns who was heard last.
    pub(super) fn last(&self) -> Option<&Peer> {
        self.last.as_ref()
    }

    fn may_answer(&mut self, now: Moment, peer: &Peer, core: &mut Core) -> bool {
        let hasher = self
            .hasher
            .get_or_insert_with(|| FixedState::with_seed(core.rng.u64(..)));
        let fingerprint = hasher.hash_one(peer);
        self.answered.resize(PLACES, None);
        let place = &mut self.answered[fingerprint as usize % PLACES];
        if place.is_some_and(|(who, at)| who == fingerprint && now.duration_since(at) < PAUSE) {
            return false;
        }
        let most = f64::from(core.settings.limits.stranger_replies);
        let gained = self
            .refilled
            .map_or(most, |at| most * now.duration_since(at).as_secs_f64());
        self.tokens = (self.tokens + gained).min(most);
        self.refilled = Some(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        *place = Some((fingerprint, now));
        true
    }
}

/// Whether the sender of this believes that it is connected, or wants to be sure that it is not.
fn wants_answer(packet: &Packet<'_>) -> bool {
    match packet {
        Packet::WillTopic(_)
        | Packet::WillMsg { .. }
        | Packet::Register { .. }
        | Packet::Publish(_)
        | Packet::PubRel { .. }
        | Packet::Subscribe { .. }
        | Packet::Unsubscribe { .. }
        | Packet::PingReq { .. }
        | Packet::Disconnect { .. }
        | Packet::WillTopicUpd(_)
        | Packet::WillMsgUpd { .. } => true,
        Packet::Advertise { .. }
        | Packet::SearchGw { .. }
        | Packet::GwInfo { .. }
        | Packet::Connect { .. }
        | Packet::ConnAck { .. }
        | Packet::WillTopicReq
        | Packet::WillMsgReq
        | Packet::RegAck { .. }
        | Packet::PubAck { .. }
        | Packet::PubRec { .. }
        | Packet::PubComp { .. }
        | Packet::SubAck { .. }
        | Packet::UnsubAck { .. }
        | Packet::PingResp
        | Packet::WillTopicResp { .. }
        | Packet::WillMsgResp { .. } => false,
    }
}
