//! The gateway's process dies and another one starts, with what its store kept.

use std::time::Duration;

use mqtt_sn_gateway::gateway::{Gateway, Input, Mode, Output};
use mqtt_sn_gateway::store::Op;

use super::{Happening, World};
use crate::ledger::{Confirmed, MessageId};
use crate::link::Impairment;
use crate::tcp::Piece;
use crate::violation::Rule;

impl World {
    /// The gateway dies without a word; it is back after the pause.
    pub(super) fn crash(&mut self, pause: Duration) {
        if self.down {
            return;
        }
        let now = self.now();
        self.note("-", &[], || "the gateway dies".to_owned());
        self.trouble();
        self.down = true;
        self.crashed_at = Some(now);
        for conn in self.tcp.held() {
            if let Some(at) = self.tcp.let_go(&mut self.rng, now, conn) {
                self.agenda.enter(at, Happening::Stream(conn, Piece::Fin));
            }
        }
        self.life += 1;
        self.wills.clear();
        if self.settings.upstream.mode == Mode::Shared {
            self.forget_unconfirmed();
        }
        self.observer.on_crash(now);
        self.agenda.enter(now + pause, Happening::Restart);
    }

    pub(super) fn restart(&mut self) {
        let now = self.now();
        let records = self.store.crash(&mut self.rng, now);
        self.book_safe();
        self.note("-", &[], || {
            format!("the gateway starts with {} records", records.len())
        });
        self.down = false;
        self.gateway = Gateway::new(self.settings.clone(), self.rng.u64(..));
        self.crowded.restart(!self.settings.keep_sessions);
        self.gateway.restore(self.clock.instant(), records);
        self.drain();
        self.feed(Input::Timeout);
    }

    pub(super) fn keep(&mut self, op: Op) {
        let now = self.now();
        if let Some(at) = self.store.take(&mut self.rng, now, op) {
            self.agenda.enter(at, Happening::Sync(self.life));
        }
    }

    /// What the gateway gave its store is safe, unless that gateway is dead.
    pub(super) fn sync(&mut self, life: u64) {
        if life != self.life || self.down {
            return;
        }
        let now = self.now();
        let tickets = self.store.sync(now);
        self.book_safe();
        for ticket in tickets {
            self.feed(Input::Stored(ticket));
        }
    }

    /// What is safe on its way to the broker is as good as there.
    fn book_safe(&mut self) {
        for id in self.store.uplink_queue().filter_map(MessageId::of) {
            if let Some(message) = self.ledger.message_mut(id) {
                message.confirmed = message.confirmed.max(Confirmed::Received);
            }
        }
    }

    /// A node is accepted: the Will it brought is safe if it is to outlive the connection. Where octets
    /// arrive once and in order nobody can be mistaken about what was brought.
    pub(super) fn check_kept(&mut self, client: &str) {
        let Some(will) = self.wills.remove(client) else {
            return;
        };
        let Some(placed) = self.clients.get(client).map(|at| &self.devices[*at]) else {
            return;
        };
        let is_exact = placed.up.impairment == Impairment::PERFECT
            && !placed.device.plan.stutters
            && self.attackers.is_empty();
        if !is_exact || !self.settings.keep_sessions || placed.device.plan.clean {
            return;
        }
        let record = self.store.safe(format!("session/{client}").as_bytes());
        let is_kept =
            record.is_some_and(|record| record.windows(will.len()).any(|part| part == will));
        if !is_kept {
            let what = "accepted, but its Will is not safe".to_owned();
            self.accuse(Rule::Promise, Some(client), what);
        }
    }

    /// Does what the gateway wants done.
    pub(super) fn obey(&mut self, output: Output) {
        match output {
            Output::Datagram { to, bytes } => self.downlink(to, &bytes),
            Output::Broker(request) => self.request(request),
            Output::Store(op) => self.keep(op),
        }
    }
}
