//! A device: a [`Client`] and the habits of what it is built into.

mod answers;
mod attacker;
mod client;
mod downlink;
mod plan;
mod request;

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use mqtt_sn_gateway::wire::{Packet, QoS, ReturnCode, Topic};

use crate::ledger::{Ledger, MessageId};
pub use attacker::{Attack, Attacker, Origin as AttackOrigin};
pub use client::{Client, Event, Identity, Stance, State};
pub use plan::{Chore, Plan, Subject};
pub use request::{Interest, Testament};
use request::{Slot, Uplink};

const T_WAIT: Duration = Duration::from_secs(301);
const OUTBOX: usize = 8;

/// How lively the World wants its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Season {
    /// They do what they are made for, with all their bad habits.
    Lively,
    /// They stay connected, sleep and collect, but publish nothing new and keep no bad habit.
    Calm,
    /// They leave by DISCONNECT and do not come back.
    Over,
}

/// What a device did that the World has to book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Its application got a message.
    Got(Vec<u8>, QoS),
    /// It has a new address.
    Moved,
    /// It forgot everything.
    Rebooted,
    /// It vanished.
    Died,
}

struct Outgoing {
    message: MessageId,
    subject: Subject,
    qos: QoS,
    payload: Vec<u8>,
    under_way: bool,
    not_before: Duration,
}

/// One device.
pub struct Device {
    /// What it is.
    pub plan: Plan,
    /// What it speaks with.
    pub client: Client,
    /// The Will the gateway should have, and the message it carries.
    pub testament: Option<MessageId>,
    /// It was connected with this Will.
    has_will_kept: bool,
    /// It is gone for ever.
    pub dead: bool,
    /// Somebody forges its address.
    pub victim: bool,
    rng: Rng,
    season: Season,
    deeds: VecDeque<Deed>,
    outbox: VecDeque<Outgoing>,
    subscribed: Vec<bool>,
    connect_at: Option<Duration>,
    publish_at: Option<Duration>,
    habit_at: Duration,
    sleep_at: Option<Duration>,
    wake_at: Option<Duration>,
    /// Sleeps once, as a chore, for this many seconds.
    nap: Option<u16>,
    /// Sleeps no more.
    roused: bool,
    failed_wakes: u32,
}

impl Device {
    /// Makes a device that is switched on when its plan says.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let first_publish = plan
            .publish_every
            .filter(|_| !plan.subjects.is_empty())
            .map(|every| plan.starts_at + every.mul_f64(rng.f64()));
        Self {
            client: Client::new(identity(&plan), rng.u16(..)),
            testament: None,
            has_will_kept: false,
            dead: false,
            victim: false,
            season: Season::Lively,
            deeds: VecDeque::new(),
            outbox: VecDeque::new(),
            subscribed: vec![false; plan.interests.len()],
            connect_at: (!plan.button).then_some(plan.starts_at),
            publish_at: first_publish,
            habit_at: plan.starts_at + Duration::from_secs(rng.u64(20..400)),
            sleep_at: None,
            wake_at: None,
            nap: None,
            roused: false,
            failed_wakes: 0,
            rng,
            plan,
        }
    }

    /// Takes the next datagram to send.
    pub fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.client.poll_datagram()
    }

    /// Takes the next thing to book.
    pub fn poll_deed(&mut self) -> Option<Deed> {
        self.deeds.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.dead {
            return None;
        }
        let habits = (self.season == Season::Lively).then_some(self.habit_at);
        let publish = self.publish_at.filter(|_| self.season == Season::Lively);
        let active = self.client.state == State::Active;
        let outbox = self
            .outbox
            .front()
            .map(|outgoing| outgoing.not_before)
            .filter(|at| active && !at.is_zero());
        [
            self.client.next_timeout(),
            self.connect_at,
            publish,
            habits,
            self.sleep_at.filter(|_| active),
            self.wake_at,
            outbox,
            self.plan.dies_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether nothing it was asked to publish is left, and no request is open but PINGREQ.
    pub fn is_done(&self) -> bool {
        self.dead || (self.outbox.is_empty() && self.client.is_settled())
    }

    /// Changes the season.
    pub fn enter(&mut self, now: Duration, season: Season, ledger: &mut Ledger) {
        self.season = season;
        if season != Season::Lively {
            self.client.breathe();
        }
        if season == Season::Over {
            self.outbox.clear();
            self.sleep_at = None;
            self.wake_at = None;
            self.connect_at = None;
            match self.client.state {
                State::Active | State::Asleep | State::Awake => self.client.disconnect(now),
                State::Disconnected | State::Connecting => self.client.abandon(),
            }
        }
        self.pump(now, ledger);
    }

    /// Has it connect when it wakes up, and stay awake.
    pub fn rouse(&mut self) {
        self.roused = true;
        self.sleep_at = None;
    }

    /// A packet of the gateway arrives.
    pub fn handle_packet(&mut self, now: Duration, packet: &Packet<'_>, ledger: &mut Ledger) {
        if self.dead || self.client.state == State::Asleep && self.client.is_idle() {
            return;
        }
        self.client.handle_packet(now, packet);
        self.pump(now, ledger);
    }

    /// Its time has come.
    pub fn handle_timeout(&mut self, now: Duration, ledger: &mut Ledger) {
        if self.dead {
            return;
        }
        if self.plan.dies_at.is_some_and(|at| at <= now) {
            self.dead = true;
            self.deeds.push_back(Deed::Died);
            return;
        }
        self.client.handle_timeout(now);
        if self.season == Season::Lively {
            self.publish_sometimes(now, ledger);
            self.indulge(now);
        }
        if self.wake_at.take_if(|at| *at <= now).is_some() {
            self.wake(now, ledger);
        }
        if self.connect_at.take_if(|at| *at <= now).is_some() {
            self.connect(now, ledger);
        }
        self.pump(now, ledger);
    }

    fn connect(&mut self, now: Duration, ledger: &mut Ledger) {
        if self.season == Season::Over {
            return;
        }
        if self.plan.clean {
            self.subscribed.fill(false);
            if self
                .outbox
                .front()
                .is_some_and(|outgoing| outgoing.under_way)
            {
                self.outbox.pop_front();
            }
        }
        let keeps_will = self.has_will_kept && !self.plan.clean && self.rng.bool();
        let will = (self.plan.will && !keeps_will).then(|| self.write_will(now, ledger));
        self.client.connect(now, self.plan.clean, will);
    }

    fn write_will(&mut self, now: Duration, ledger: &mut Ledger) -> Testament {
        let topic = format!("will/{}", self.plan.client_id);
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.rng.usize(..3)];
        let message = ledger.publish(None, &topic, qos, now);
        if let Some(message) = ledger.message_mut(message) {
            // A Will may be published more than once, by as many connections as carried it.
            message.retained = true;
        }
        self.testament = Some(message);
        self.has_will_kept = false;
        Testament {
            topic,
            message: message.payload(0),
            qos,
            retain: self.rng.bool(),
        }
    }

    fn publish_sometimes(&mut self, now: Duration, ledger: &mut Ledger) {
        let Some(every) = self.plan.publish_every else {
            return;
        };
        if self.publish_at.is_none_or(|at| at > now) {
            return;
        }
        self.publish_at = Some(now + every.mul_f64(0.5 + self.rng.f64()));
        if self.outbox.len() < OUTBOX {
            let choice = self.rng.usize(..self.plan.subjects.len());
            let (subject, qos) = self.plan.subjects[choice].clone();
            self.publish(now, subject, qos, ledger);
        }
    }

    /// Queues a message to publish.
    pub fn publish(
        &mut self,
        now: Duration,
        subject: Subject,
        qos: QoS,
        ledger: &mut Ledger,
    ) -> MessageId {
        let topic = match &subject {
            Subject::Name(name) | Subject::Predefined(_, name) => name.clone(),
            Subject::Short(octets) => String::from_utf8_lossy(octets).into_owned(),
        };
        let message = ledger.publish(Some(&self.plan.client_id), &topic, qos, now);
        if let Some(message) = ledger.message_mut(message) {
            message.forged |= self.victim;
        }
        self.outbox.push_back(Outgoing {
            message,
            subject,
            qos,
            payload: message.payload(self.plan.payload),
            under_way: false,
            not_before: Duration::ZERO,
        });
        message
    }

    /// Gives in to one bad habit, if it is time.
    fn indulge(&mut self, now: Duration) {
        if self.habit_at > now {
            return;
        }
        self.habit_at = now + Duration::from_secs(self.rng.u64(60..900));
        match self.rng.u8(..5) {
            0 if self.plan.reboots => self.reboot(now),
            1 if self.plan.roams => self.deeds.push_back(Deed::Moved),
            2 if self.plan.leaves => self.dismiss(now),
            4 if self.plan.fickle => self.unsubscribe_one(now),
            3 if self.plan.rewrites_will => self.rewrite_will(now),
            _ => {}
        }
    }

    fn unsubscribe_one(&mut self, now: Duration) {
        let active = self.client.state == State::Active && self.client.is_free(Slot::Subscribe);
        if active && let Some((interest, _)) = self.plan.interests.first() {
            self.client.unsubscribe(now, interest.clone());
        }
    }

    fn rewrite_will(&mut self, now: Duration) {
        let may = self.client.state == State::Active && self.client.is_free(Slot::Will);
        if let Some(mut will) = self.client.will.clone().filter(|_| may) {
            will.qos = match will.qos {
                QoS::AtLeastOnce => QoS::ExactlyOnce,
                QoS::MinusOne | QoS::AtMostOnce | QoS::ExactlyOnce => QoS::AtLeastOnce,
            };
            self.client.change_will(now, will);
        }
    }

    /// Does one thing now, whatever its plan says, if its state allows it.
    pub fn handle_chore(&mut self, now: Duration, chore: Chore, ledger: &mut Ledger) {
        if self.dead {
            return;
        }
        match chore {
            Chore::Publish(subject, qos) => {
                self.publish(now, subject, qos, ledger);
            }
            Chore::Resubscribe => self.unsubscribe_one(now),
            Chore::RewriteWill => self.rewrite_will(now),
            Chore::Sleep(seconds) => {
                if self.client.state == State::Active && self.client.is_idle() {
                    self.client.sleep(now, seconds);
                    self.nap = Some(seconds);
                }
            }
            Chore::Leave => self.dismiss(now),
            Chore::Reboot => self.reboot(now),
            Chore::Move => self.deeds.push_back(Deed::Moved),
        }
        self.pump(now, ledger);
    }

    /// Publishes what waits, without a connection.
    fn press(&mut self, now: Duration) {
        while let Some(outgoing) = self.outbox.pop_front() {
            let topic = match outgoing.subject {
                Subject::Predefined(id, _) => Topic::Predefined(id),
                Subject::Short(octets) => Topic::Short(octets),
                Subject::Name(_) => continue,
            };
            let uplink = Uplink {
                message: outgoing.message,
                topic,
                qos: QoS::MinusOne,
                retain: false,
                payload: outgoing.payload,
            };
            self.client.publish(now, uplink);
        }
    }

    fn dismiss(&mut self, now: Duration) {
        if self.client.state == State::Active {
            self.sleep_at = None;
            self.client.disconnect(now);
        }
    }

    fn reboot(&mut self, now: Duration) {
        self.client = Client::new(identity(&self.plan), self.rng.u16(..));
        self.outbox.clear();
        self.subscribed.fill(false);
        self.sleep_at = None;
        self.wake_at = None;
        self.nap = None;
        self.connect_at = Some(now + Duration::from_millis(self.rng.u64(100..20_000)));
        self.deeds.push_back(Deed::Rebooted);
    }

    fn wake(&mut self, now: Duration, ledger: &mut Ledger) {
        if self.client.state != State::Asleep {
            return;
        }
        if self.plan.roams && self.season == Season::Lively && self.rng.u8(..3) == 0 {
            self.deeds.push_back(Deed::Moved);
        }
        let wants_to_talk = !self.outbox.is_empty() || self.subscribed.contains(&false);
        if self.roused || self.failed_wakes > 1 || wants_to_talk && self.rng.bool() {
            self.connect(now, ledger);
        } else {
            self.client.wake(now);
        }
    }

    fn pump(&mut self, now: Duration, ledger: &mut Ledger) {
        while let Some(event) = self.client.poll_event() {
            self.follow(now, event);
        }
        if self.season == Season::Over {
            return;
        }
        if self.plan.button {
            self.press(now);
        }
        if self.client.state == State::Active {
            self.subscribe_next(now);
            self.publish_next(now);
            self.go_to_sleep(now);
        }
        let _ = ledger;
    }

    fn follow(&mut self, now: Duration, event: Event) {
        match event {
            Event::Connected => {
                self.has_will_kept = self.testament.is_some();
                self.failed_wakes = 0;
                self.plan_sleep(now);
            }
            Event::Refused(code) => {
                let wait = if code == ReturnCode::Congestion {
                    T_WAIT
                } else {
                    T_WAIT / 5
                };
                self.connect_at = Some(now + wait);
            }
            Event::Lost | Event::Kicked | Event::Left => {
                self.sleep_at = None;
                self.wake_at = None;
                self.nap = None;
                let wait = Duration::from_millis(self.rng.u64(50..10_000));
                self.connect_at = (self.season != Season::Over).then_some(now + wait);
            }
            Event::Flushed if self.nap.take().is_some() => {
                self.connect_at = Some(now + Duration::from_secs(1));
            }
            Event::Asleep | Event::Flushed => {
                self.failed_wakes = 0;
                self.plan_wake(now);
            }
            Event::NotFlushed => {
                self.failed_wakes += 1;
                self.wake_at = Some(now + Duration::from_secs(self.rng.u64(1..5)));
            }
            Event::Published(message, code) => self.published(now, message, code),
            Event::Subscribed(interest, code) => {
                self.mark_subscribed(&interest, code.is_accepted())
            }
            Event::Unsubscribed(interest) => self.mark_subscribed(&interest, false),
            Event::Message(payload, qos) => self.deeds.push_back(Deed::Got(payload, qos)),
            Event::WillChanged(_) => {}
        }
    }

    fn plan_sleep(&mut self, now: Duration) {
        if self.plan.sleep.is_some() && !self.roused {
            self.sleep_at = Some(now + Duration::from_secs(self.rng.u64(1..8)));
        }
    }

    fn plan_wake(&mut self, now: Duration) {
        if let Some(seconds) = self.plan.sleep.or(self.nap) {
            let share = 0.6 + 0.25 * self.rng.f64();
            self.wake_at = Some(now + Duration::from_secs(u64::from(seconds)).mul_f64(share));
        }
    }

    fn go_to_sleep(&mut self, now: Duration) {
        let Some(seconds) = self.plan.sleep else {
            return;
        };
        let busy =
            !self.client.is_idle() || !self.outbox.is_empty() || self.subscribed.contains(&false);
        if self.sleep_at.is_some_and(|at| at <= now) {
            self.sleep_at = None;
            if busy {
                self.plan_sleep(now);
            } else {
                self.client.sleep(now, seconds);
            }
        }
    }

    fn subscribe_next(&mut self, now: Duration) {
        if !self.client.is_free(Slot::Subscribe) {
            return;
        }
        if let Some(next) = self.subscribed.iter().position(|done| !done) {
            let (interest, qos) = self.plan.interests[next].clone();
            self.client.subscribe(now, interest, qos);
        }
    }

    fn mark_subscribed(&mut self, interest: &Interest, done: bool) {
        for (index, (wanted, _)) in self.plan.interests.iter().enumerate() {
            if wanted == interest {
                self.subscribed[index] = done;
            }
        }
    }

    fn publish_next(&mut self, now: Duration) {
        while let Some(outgoing) = self.outbox.front_mut() {
            if outgoing.under_way || outgoing.not_before > now {
                return;
            }
            outgoing.not_before = Duration::ZERO;
            let topic = match &outgoing.subject {
                Subject::Name(name) => match self.client.id_of(name) {
                    Some(id) => Topic::Normal(id),
                    None => {
                        if self.client.is_free(Slot::Register) {
                            let name = name.clone();
                            self.client.register(now, &name);
                        }
                        return;
                    }
                },
                Subject::Predefined(id, _) => Topic::Predefined(*id),
                Subject::Short(octets) => Topic::Short(*octets),
            };
            let uplink = Uplink {
                message: outgoing.message,
                topic,
                qos: outgoing.qos,
                retain: false,
                payload: outgoing.payload.clone(),
            };
            if outgoing.qos < QoS::AtLeastOnce {
                self.outbox.pop_front();
                self.client.publish(now, uplink);
            } else if self.client.is_free(Slot::Publish) {
                outgoing.under_way = true;
                self.client.publish(now, uplink);
            } else {
                return;
            }
        }
    }

    fn published(&mut self, now: Duration, message: MessageId, code: ReturnCode) {
        let Some(outgoing) = self
            .outbox
            .front_mut()
            .filter(|outgoing| outgoing.message == message)
        else {
            return;
        };
        outgoing.under_way = false;
        let named = matches!(outgoing.subject, Subject::Name(_));
        match code {
            ReturnCode::InvalidTopicId if named => {}
            ReturnCode::Congestion => outgoing.not_before = now + T_WAIT,
            ReturnCode::Accepted
            | ReturnCode::InvalidTopicId
            | ReturnCode::NotSupported
            | ReturnCode::Reserved(_) => {
                self.outbox.pop_front();
            }
        }
    }
}

fn identity(plan: &Plan) -> Identity {
    Identity {
        client_id: plan.client_id.clone(),
        keep_alive: plan.keep_alive,
        node: plan.node.clone(),
        retry: Duration::from_secs(10),
        retries: 3,
        stance: plan.stance,
    }
}
