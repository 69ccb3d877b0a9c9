//! What the World does to its inhabitants: bad moments of the broker, attacks, weather.

use std::time::Duration;

use mqtt_sn_gateway::gateway::{LinkId, Mode};
use mqtt_sn_gateway::wire::{Packet, decode};

use super::{Act, Happening, World};
use crate::device::{AttackOrigin, Season};
use crate::ledger::MessageId;

/// How long garbage has effects: until the gateway gives the connection up and has sorted things out.
const CONFUSION: Duration = Duration::from_secs(120);

impl World {
    pub(super) fn act(&mut self, act: Act) {
        let now = self.now();
        match act {
            Act::Mood(mood) => {
                self.note("-", &[], || format!("broker: {mood:?}"));
                if mood != self.broker.mood() {
                    self.trouble();
                }
                self.broker.set_mood(now, mood);
            }
            Act::Cut(pick) => {
                let connections = self.broker.connections();
                if !connections.is_empty() {
                    let conn = connections[pick % connections.len()];
                    self.note("-", &[], || format!("broker: cuts connection {}", conn.0));
                    self.trouble();
                    self.broker.cut(now, conn);
                }
            }
            Act::CutAll => {
                self.note("-", &[], || "broker: cuts every connection".to_owned());
                self.trouble();
                for conn in self.broker.connections() {
                    self.broker.cut(now, conn);
                }
            }
            Act::Babble(pick, octets) => {
                let connections = self.broker.connections();
                if !connections.is_empty() {
                    let conn = connections[pick % connections.len()];
                    self.note("-", &octets, || {
                        format!("broker: garbage on connection {}", conn.0)
                    });
                    self.trouble();
                    self.confused_until = now + CONFUSION;
                    self.broker.babble(conn, octets);
                }
            }
            Act::Publish(topic, qos, retain, size) => {
                let id = self.ledger.publish(None, &topic, qos, now);
                if let Some(message) = self.ledger.message_mut(id) {
                    message.retained = retain;
                    message.octets = size;
                }
                self.note("-", &[], || format!("broker: {id} on {topic} at QoS {qos}"));
                self.broker.publish(
                    now,
                    &topic,
                    id.payload(size),
                    qos.level().unsigned_abs(),
                    retain,
                );
            }
            Act::Strike(index, every) => {
                if self.season == Season::Lively {
                    self.strike(index);
                    self.schedule(now + every, Act::Strike(index, every));
                }
            }
            Act::Weather(impairment) => {
                for placed in &mut self.devices {
                    placed.up.impairment = impairment;
                    placed.down.impairment = impairment;
                }
                for dongle in self.dongles.values_mut() {
                    dongle.trouble.damage = impairment.corrupt;
                    dongle.trouble.noise = impairment.corrupt;
                    dongle.trouble.moods = impairment.corrupt;
                }
            }
            Act::Crash(pause) => self.crash(pause),
            Act::Chore(index, chore) => {
                self.devices[index]
                    .device
                    .handle_chore(now, chore, &mut self.ledger);
                self.look_after(index);
            }
            Act::Unplug(link, time) => {
                self.note("-", &[], || "dongle: unplugged".to_owned());
                self.plug(link, false);
                self.schedule(now + time, Act::Plug(link));
            }
            Act::Plug(link) => {
                self.note("-", &[], || "dongle: plugged in".to_owned());
                self.plug(link, true);
            }
        }
        self.follow_broker();
    }

    /// From now on the broker's side may have broken anything.
    pub(super) fn trouble(&mut self) {
        let now = self.now();
        self.troubled_at = Some(now);
        for placed in &mut self.devices {
            placed.upset_at = Some(now);
        }
    }

    pub(crate) fn strike(&mut self, index: usize) {
        let (attacker, own) = &mut self.attackers[index];
        let (origin, octets) = attacker.strike(&self.overheard);
        // On a shared connection the broker does not see who sent it.
        if self.settings.upstream.mode == Mode::Shared
            && let Some(id) = named_by(&octets)
        {
            self.ledger.forge(id);
        }
        let from = match origin {
            AttackOrigin::Own => own.clone(),
            AttackOrigin::Fresh => self.new_peer(LinkId(0), None),
            AttackOrigin::Victim => {
                let victim = attacker
                    .victim
                    .as_ref()
                    .and_then(|victim| self.clients.get(victim));
                let Some(victim) = victim else {
                    return;
                };
                self.devices[*victim].peer.clone()
            }
        };
        self.agenda
            .enter(self.clock.now(), Happening::Uplink(from, octets));
    }
}

/// Returns the message a datagram carries.
pub(super) fn named_by(octets: &[u8]) -> Option<MessageId> {
    if let Packet::Publish(publish) = decode(octets).ok()?.packet {
        MessageId::of(publish.data)
    } else {
        None
    }
}
