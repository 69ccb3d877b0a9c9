//! End to end: each message from its publisher to its readers, each Will, and what is left at the end.

use std::time::Duration;

use mqtt_sn_gateway::gateway::Mode;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::QoS;

use crate::broker::Effect;
use crate::device::State;
use crate::ledger::MessageId;
use crate::violation::{Rule, Violation};
use crate::world::World;

impl World {
    /// The application of a device got a message.
    pub(crate) fn check_delivery(&mut self, index: usize, payload: &[u8], qos: QoS) {
        let Some(id) = MessageId::of(payload) else {
            return;
        };
        let client = self.devices[index].device.plan.client_id.clone();
        let (times, overtaken) = self.ledger.deliver(&client, id, qos);
        let Some(message) = self.ledger.message(id) else {
            return;
        };
        // An attacker may have sent it as QoS -1, under the topic of others, before its author did.
        if message.retained || message.forged || self.devices[index].device.victim {
            return;
        }
        // What garbage swallowed comes again behind what it did not, to a sleeper much later.
        let confused = message.sent_at < self.confused_until;
        let (sent_at, copies) = (message.sent_at, message.copies.max(1));
        let rebooted = self.devices[index]
            .rebooted_at
            .is_some_and(|at| at >= sent_at);
        let survived = self.remembers_all_since(sent_at);
        if times > copies && qos == QoS::ExactlyOnce && !rebooted && survived {
            let what = format!("the application got {id} {times} times");
            self.accuse(Rule::ExactlyOnce, Some(&client), what);
        }
        // At QoS 1 its author may have published it again, behind a later one.
        if overtaken && !confused && copies == 1 {
            self.accuse(
                Rule::Order,
                Some(&client),
                format!("{id} came after a later message of its topic"),
            );
        }
    }

    /// The broker did, or saw, something.
    pub(crate) fn check_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send(..) | Effect::Close(_) | Effect::Wake(..) => {}
            Effect::Arrived {
                client,
                message,
                topic,
            } if self.is_carrier(&client) => self.check_carried(message, &topic),
            Effect::Arrived {
                client,
                message,
                topic,
            } => self.check_arrival(&client, message, &topic),
            Effect::Owed {
                client,
                message,
                retained,
            } if self.is_carrier(&client) => self.owe_carried(message, retained),
            Effect::Owed {
                client, message, ..
            } => self.ledger.owe(&client, message),
            Effect::Served(_, filter) => self.observer.on_served(&filter),
            Effect::Settled(client, _) | Effect::Forgotten(client) | Effect::Will(client, _)
                if self.is_carrier(&client) => {}
            Effect::Settled(client, id) => self.check_settled(&client, id),
            Effect::Forgotten(client) => self.ledger.forget(&client),
            Effect::Will(client, id) => self.check_will(&client, id),
            Effect::Left(client) => self.note("broker", &[], || format!("{client} leaves")),
            Effect::Wrong(client, what) => self.accuse(Rule::Mqtt, client.as_deref(), what),
        }
    }

    pub(crate) fn check_arrival(&mut self, client: &str, id: Option<MessageId>, topic: &str) {
        if let Some(message) = id.and_then(|id| self.ledger.message_mut(id)) {
            message.copies += 1;
            // Somebody else replays it, or guessed what it would be.
            message.forged |= match message.origin.as_deref() {
                Some(origin) if message.qos != QoS::MinusOne => origin != client,
                Some(_) | None => !self.attackers.is_empty() && message.topic != topic,
            };
        }
        if *client == *self.settings.name {
            return self.check_anonymous(id, topic);
        }
        let Some(index) = self.clients.get(client).copied() else {
            return;
        };
        let Some(message) = id.and_then(|id| self.ledger.message(id)) else {
            return;
        };
        let Some(id) = id else {
            return;
        };
        if self.devices[index].device.victim {
            return;
        }
        if message.topic != topic {
            let what = format!(
                "{id} of topic {} reached the broker as {topic}",
                message.topic
            );
            self.accuse(Rule::ToldId, Some(client), what);
            return;
        }
        let (qos, sent_at) = (message.qos, message.sent_at);
        let confused = self.now() < self.confused_until;
        let (times, overtaken) = self.ledger.arrive(id);
        let placed = &self.devices[index];
        // With a clean session the broker forgets a half-done QoS 2 exchange when its connection breaks.
        let forgotten = placed.device.plan.clean && placed.upset_at.is_some_and(|at| at >= sent_at);
        let survived = self.remembers_all_since(sent_at) || self.stores_qos2();
        if times > 1 && qos == QoS::ExactlyOnce && !forgotten && !confused && survived {
            self.accuse(
                Rule::ExactlyOnce,
                Some(client),
                format!("{id} reached the broker {times} times"),
            );
        }
        if overtaken && !confused {
            self.accuse(
                Rule::Order,
                Some(client),
                format!("{id} reached the broker after a later one"),
            );
        }
    }

    /// A message came on the gateway's own connection: QoS -1 [S 6.8].
    fn check_anonymous(&mut self, id: Option<MessageId>, topic: &str) {
        let Some(id) = id else {
            return;
        };
        let besieged = !self.attackers.is_empty();
        let Some(message) = self.ledger.message_mut(id) else {
            if besieged {
                self.ledger.foretell(id);
            }
            return;
        };
        let right = message.topic == topic && message.qos == QoS::MinusOne;
        // An attacker may send what it overheard, or guessed, from an address that may.
        if besieged && !right {
            message.forged = true;
            return;
        }
        message.arrivals += 1;
        let origin = message.origin.clone();
        let index = origin.as_ref().and_then(|origin| self.clients.get(origin));
        let link = index.map(|index| usize::from(self.devices[*index].device.plan.link.0));
        let allowed = link.is_some_and(|link| self.settings.links[link].qos_minus_one.is_some());
        if !(right && allowed || besieged) {
            let what = format!("came as QoS -1 on {topic}, against the rules or the topic");
            self.accuse(Rule::Form, origin.as_deref(), what);
        }
    }

    /// Whether no state of this time or later was lost in a crash of the gateway, which keeps none of an
    /// exchange.
    fn remembers_all_since(&self, time: Duration) -> bool {
        self.crashed_at.is_none_or(|at| at < time)
    }

    /// Whether a message cannot travel on the link of a device [S 6.10].
    pub(crate) fn is_too_large(&self, index: usize, octets: usize) -> bool {
        let plan = &self.devices[index].device.plan;
        let wrapped = plan.node.as_ref().map_or(0, |node| 3 + node.len());
        let header = if octets + 7 > 255 { 9 } else { 7 };
        header + octets + wrapped > self.settings.links[usize::from(plan.link.0)].max_message
    }

    fn check_settled(&mut self, client: &str, id: MessageId) {
        self.ledger.settle(client, id);
        let Some(index) = self.clients.get(client).copied() else {
            return;
        };
        let Some(message) = self.ledger.message(id) else {
            return;
        };
        let (topic, octets) = (message.topic.clone(), message.octets);
        let placed = &self.devices[index];
        let forged = message.forged;
        if placed.device.victim || placed.device.dead || forged || self.is_too_large(index, octets)
        {
            return;
        }
        let known = self
            .ledger
            .receipt(client, id)
            .is_some_and(|receipt| receipt.confirmed || receipt.given_up);
        if !known
            && !self.observer.may_drop(self.clock.now(), client, id, &topic)
            && !self.crowded.excuse(client)
        {
            let what = format!("{id} is acknowledged, but the node has not acknowledged it");
            self.accuse(Rule::NodeFirst, Some(client), what);
        }
    }

    pub(crate) fn check_will(&mut self, client: &str, id: Option<MessageId>) {
        self.note("broker", &[], || format!("publishes the Will of {client}"));
        let Some(index) = self.clients.get(client).copied() else {
            return;
        };
        let placed = &mut self.devices[index];
        if placed.device.victim {
            return;
        }
        if placed.lost_at.is_some() {
            placed.wills += 1;
        } else {
            placed.spent = id;
        }
        let upset = placed.upset_at;
        if let Some(left_at) = self.observer.left_at(client)
            && upset.is_none_or(|at| at + Duration::from_secs(120) < left_at)
        {
            let what = format!(
                "published after the DISCONNECT at {:.3} s",
                left_at.as_secs_f64()
            );
            self.accuse(Rule::Will, Some(client), what);
        }
        if id.is_none() {
            self.accuse(
                Rule::Will,
                Some(client),
                "a Will the node never wrote".to_owned(),
            );
        }
    }

    /// Returns how many messages the broker holds for the devices that live.
    pub fn owed(&self) -> usize {
        self.devices
            .iter()
            .filter(|placed| !placed.device.dead && !placed.device.victim)
            .map(|placed| self.owed_to(&placed.device.plan.client_id).len())
            .sum()
    }

    /// Returns how many messages the gateway has given up because their nodes do not take them, or cannot.
    pub(crate) fn given_up(&self) -> u64 {
        let drops = &self.gateway.stats().drops;
        drops[Drop::Refused] + drops[Drop::Undeliverable] + drops[Drop::TooLarge]
    }

    /// Checks that nothing is owed any more: to be called after calm weather and a calm season long
    /// enough for every device to connect, wake up and collect.
    ///
    /// # Errors
    /// The first message that did not arrive, device that is not connected, or Will that is missing.
    pub fn check_calm(&mut self) -> Result<(), Violation> {
        for index in 0..self.devices.len() {
            let placed = &self.devices[index];
            let client = placed.device.plan.client_id.clone();
            if placed.device.victim || placed.device.plan.button {
                continue;
            }
            if placed.device.dead {
                self.check_testament(index);
                continue;
            }
            let state = placed.device.client.state;
            if matches!(state, State::Disconnected | State::Connecting) {
                self.accuse(
                    Rule::Delivery,
                    Some(&client),
                    format!("the node is {state:?} in calm weather"),
                );
            }
            if !self.devices[index].device.is_done() && state == State::Active {
                self.accuse(
                    Rule::Delivery,
                    Some(&client),
                    "the node still waits for answers".to_owned(),
                );
            }
            let mut missing = self.owed_to(&client).into_iter();
            let missing = missing.find(|_| !self.crowded.excuse(&client));
            if let Some(id) = missing {
                self.accuse(
                    Rule::Delivery,
                    Some(&client),
                    format!("{id} never reached the node"),
                );
            }
        }
        self.check_promises();
        self.verdict()
    }

    /// What a device was told is safe has reached the broker by now.
    fn check_promises(&mut self) {
        let lost = self.ledger.messages().find(|(_, message)| {
            message.acknowledged && message.arrivals == 0 && message.copies == 0 && !message.forged
        });
        let Some((id, message)) = lost else {
            return;
        };
        let origin = message.origin.clone();
        let victim = origin
            .as_ref()
            .and_then(|origin| self.clients.get(origin))
            .is_some_and(|index| self.devices[*index].device.victim);
        if !victim {
            let what = format!("{id} was acknowledged and never reached the broker");
            self.accuse(Rule::Promise, origin.as_deref(), what);
        }
    }

    fn check_testament(&mut self, index: usize) {
        let placed = &self.devices[index];
        let Some(lost_at) = placed.lost_at else {
            return;
        };
        let plan = &placed.device.plan;
        let undisturbed = self
            .troubled_at
            .is_none_or(|at| at + Duration::from_secs(120) < lost_at);
        // Else a Will of an earlier connection may be forgotten.
        let is_known = self.settings.keep_sessions || self.crashed_at.is_none();
        let supervised = plan.keep_alive > 0;
        let testament = placed.device.testament;
        let has_testament = testament.is_some() && testament != placed.spent;
        if !(plan.will && has_testament && undisturbed && is_known && supervised) {
            return;
        }
        // On shared connections nobody knows whose it is among attackers.
        let is_seen = self.settings.upstream.mode == Mode::PerNode || self.attackers.is_empty();
        if is_seen && placed.wills != 1 {
            let (client, wills) = (plan.client_id.clone(), placed.wills);
            let what = format!("published {wills} times after the node vanished");
            self.accuse(Rule::Will, Some(&client), what);
        }
    }

    /// Checks that nothing is left: to be called some time after [`Season::Over`](crate::Season::Over).
    ///
    /// # Errors
    /// The first session, connection or timer that should be gone.
    pub fn check_rest(&mut self) -> Result<(), Violation> {
        for index in 0..self.devices.len() {
            let placed = &self.devices[index];
            let client = placed.device.plan.client_id.clone();
            if !placed.device.dead && self.observer.is_connected(&client) {
                self.accuse(Rule::Rest, Some(&client), "still connected".to_owned());
            }
        }
        // The gateway's own connection stays.
        let own = self.broker.strangers(&self.clients);
        let mut held = self.tcp.held();
        held.retain(|conn| !own.contains(conn));
        if !held.is_empty() {
            self.accuse(
                Rule::Rest,
                None,
                format!("connections to the broker are still open: {held:?}"),
            );
        }
        // Its own connection is all that keeps it busy.
        let (before, minutes) = (self.wakes, 10);
        self.run_for(Duration::from_secs(60 * minutes))?;
        let wakes = self.wakes - before;
        if wakes > minutes * own.len().max(1) as u64 {
            self.accuse(
                Rule::Rest,
                None,
                format!("woken up {wakes} times in {minutes} minutes"),
            );
        }
        self.verdict()
    }

    fn verdict(&mut self) -> Result<(), Violation> {
        match self.violations.is_empty() {
            true => Ok(()),
            false => Err(self.violations.remove(0)),
        }
    }
}
