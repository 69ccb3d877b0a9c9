//! Who may connect, who was refused and why, and the door that people may open for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::observe::{Happening, Interest, Trace};
use super::{Core, Peer};
use crate::moment::Moment;
use crate::session::Trouble;
use crate::upstream::Refusal;

/// Refused client ids that are remembered.
const REFUSED_MAX: usize = 64;
/// Octets kept of a refused client id.
const CLIENT_ID_KEPT: usize = 100;
/// Client ids remembered that came in through an open door.
const ADMITTED_MAX: usize = 100;

/// Refusals of a kind told in the log in one [`TELLING`]: anybody can have a CONNECT refused.
const TOLD_MAX: u32 = 10;
const TELLING: Duration = Duration::from_secs(60);

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// `ProtocolId` is not 1.
    Protocol,
    /// Empty, too long, or with a NUL.
    Malformed,
    /// Not in the list of clients that may connect.
    NotAllowed,
    /// The client id is bound to another address, which it may not leave.
    BoundElsewhere,
    /// There are as many sessions as there may be.
    Full,
    /// The broker does not want it, or is not there.
    Broker(Refusal),
}

/// A client id that was refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The client id, cut short.
    pub client_id: Arc<str>,
    /// Where the last CONNECT came from.
    pub peer: Peer,
    /// Why.
    pub reason: RefusedReason,
    /// When, the last time.
    pub at: Instant,
    /// How often.
    pub times: u32,
}

/// What was told in the log of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    since: Option<Moment>,
    lines: u32,
}

impl Told {
    /// Counts a line and returns what to end it with; `None` if it is one too many.
    pub(super) fn next_line(&mut self, now: Moment) -> Option<&'static str> {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= TELLING)
        {
            *self = Self {
                since: Some(now),
                lines: 0,
            };
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..TOLD_MAX => Some(""),
            TOLD_MAX => Some(" Further ones are not told for a minute."),
            _ => None,
        }
    }
}

/// An open door for clients that are not in the list.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    pub(super) until: Moment,
    pub(super) admitted: Vec<Arc<str>>,
}

impl Core {
    /// Whether a client id may connect (I-33, allow-list).
    pub(super) fn accepts(
        &mut self,
        now: Moment,
        protocol_id: u8,
        client_id: &str,
    ) -> Result<(), RefusedReason> {
        if protocol_id != 1 {
            return Err(RefusedReason::Protocol);
        }
        let well_formed = (1..=self.settings.session.client_id_max).contains(&client_id.len())
            && !client_id.contains('\0');
        if !well_formed {
            return Err(RefusedReason::Malformed);
        }
        let allowed = self.settings.allowed_clients.as_ref();
        if allowed.is_none_or(|patterns| patterns.iter().any(|p| p.matches(client_id)))
            || self.admits(now, client_id)
        {
            Ok(())
        } else {
            Err(RefusedReason::NotAllowed)
        }
    }

    /// Remembers a client id that was refused, once each.
    pub(super) fn refused(
        &mut self,
        now: Moment,
        client_id: &str,
        peer: &Peer,
        reason: RefusedReason,
    ) {
        let mut end = client_id.len().min(CLIENT_ID_KEPT);
        while !client_id.is_char_boundary(end) {
            end -= 1;
        }
        let client_id: Arc<str> = client_id[..end].into();
        let before = self
            .refused
            .iter()
            .position(|refused| refused.client_id == client_id);
        let before = before.and_then(|index| self.refused.remove(index));
        let times = before.as_ref().map_or(0, |refused| refused.times);
        let times = times.saturating_add(1);
        if before.is_none_or(|refused| refused.reason != reason) {
            self.tell_refusal(now, &client_id, peer, reason);
        }
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(Refused {
            client_id: client_id.clone(),
            peer: peer.clone(),
            reason,
            at: self.epoch.instant(now),
            times,
        });
        if self.traces(Interest::States) {
            self.trace(&Trace {
                at: self.epoch.instant(now),
                node: Some(client_id),
                link: Some(peer.link),
                what: Happening::Refused {
                    peer: peer.clone(),
                    reason,
                },
            });
        }
    }

    fn tell_refusal(&mut self, now: Moment, client_id: &str, peer: &Peer, reason: RefusedReason) {
        let Some(rest) = self.refusals_told.next_line(now) else {
            return;
        };
        let link = self.link(peer.link).map_or("", |link| &link.name);
        let words = reason.words();
        let advice = reason.advice(client_id);
        let advice = advice.map_or_else(String::new, |advice| format!(" {advice}"));
        tracing::warn!(
            node = client_id,
            "CONNECT of {client_id:?} from {peer} on link {link} refused: {words}.{advice}{rest}"
        );
    }

    /// Whether the door is open for a client that is not in the list; remembers that it came in.
    fn admits(&mut self, now: Moment, client_id: &str) -> bool {
        let Some(permit) = &mut self.permit else {
            return false;
        };
        if permit.until <= now {
            return false;
        }
        let known = permit.admitted.iter().any(|known| **known == *client_id);
        if !known && permit.admitted.len() < ADMITTED_MAX {
            permit.admitted.push(client_id.into());
        }
        true
    }
}

impl RefusedReason {
    /// Returns the reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Protocol => "its CONNECT asks for a protocol other than MQTT-SN 1.2",
            Self::Malformed => "its client id is empty, too long, or holds a NUL (clients.id_max)",
            Self::NotAllowed => "its client id is not in clients.allow",
            Self::BoundElsewhere => {
                "the client id is bound to another address (takeover of the link)"
            }
            Self::Full => "there are as many sessions as limits.clients allows",
            Self::Broker(refusal) => refusal.words(),
        }
    }

    /// Returns what helps, for the client of this name; `None` when the reason says all.
    pub fn advice(self, client_id: &str) -> Option<String> {
        match self {
            Self::Protocol => {
                Some("Only protocol id 1 is spoken here, which is that of MQTT-SN 1.2.".to_owned())
            }
            Self::Full => Some("Raise limits.clients, or forget nodes that are gone.".to_owned()),
            Self::NotAllowed => Some(format!(
                "To accept: mqtt-sn-gateway permit 120, or add {client_id:?} to clients.allow and reload."
            )),
            Self::Broker(refusal) => Trouble::Broker(refusal).advice(client_id),
            Self::Malformed | Self::BoundElsewhere => None,
        }
    }
}
