//! Plays steps on a session: the device's firmware, so to speak.
//!
//! A step starts when the one before is complete: acknowledged, refused or given up. A node that
//! is thrown out connects again at once, one that gets no answer after a pause, and both then take
//! their subscriptions up again if the session was clean.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_sn_gateway::wire::QoS;

use super::{PublishStep, Step, TopicStep};
use crate::session::{Asked, Event, Publication, Session, State, Ticket, TopicRef, Will};
use crate::template::{Template, Values};

/// Steps started in one go at most; the rest follows in the next turn of the loop.
const STEPS_A_TURN: u32 = 64;

/// A node that plays steps.
#[derive(Debug)]
pub struct Player {
    index: usize,
    steps: VecDeque<Arc<Step>>,
    /// What follows when the steps are done, again and again.
    again: Arc<[Arc<Step>]>,
    random: fastrand::Rng,
    pause_until: Option<Instant>,
    /// Pause after a CONNECT that failed.
    patience: Duration,
    stays_connected: bool,
    subscriptions: Vec<(TopicRef, QoS)>,
    published: u64,
}

/// A publish a player made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its ticket at the session.
    pub ticket: Ticket,
    /// What and where to.
    pub publication: Publication,
}

/// What a player wants from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// When to be asked again at the latest.
    pub wake_up: Option<Instant>,
    /// The node shall get another address before it says anything more.
    pub new_address: bool,
    /// It was to wake up and is not asleep.
    pub was_awake: bool,
}

impl Player {
    /// Makes the player of node `index`; `again` is repeated for ever after `steps`.
    pub fn new(
        index: usize,
        steps: &[Arc<Step>],
        again: Arc<[Arc<Step>]>,
        patience: Duration,
        seed: u64,
    ) -> Self {
        Self {
            index,
            steps: steps.iter().cloned().collect(),
            again,
            random: fastrand::Rng::with_seed(seed),
            pause_until: None,
            patience,
            stays_connected: false,
            subscriptions: Vec::new(),
            published: 0,
        }
    }

    /// Adds a step at the end.
    pub fn push(&mut self, step: Step) {
        self.steps.push_back(Arc::new(step));
    }

    /// Whether every step is done and complete.
    pub fn is_done(&self, session: &Session, now: Instant) -> bool {
        self.steps.is_empty()
            && self.again.is_empty()
            && self.pause_until.is_none_or(|until| until <= now)
            && !session.is_waiting()
    }

    /// Starts nothing before a time.
    pub fn pause(&mut self, until: Instant) {
        self.pause_until = Some(until);
    }

    /// Returns how long nothing will be started.
    pub fn pauses_for(&self, now: Instant) -> Duration {
        self.pause_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Does nothing more, and does not come back.
    pub fn stop(&mut self) {
        self.steps.clear();
        self.again = Arc::new([]);
        self.stays_connected = false;
        self.pause_until = None;
    }

    /// Takes note of what happened to the node.
    pub fn handle_event(&mut self, now: Instant, session: &mut Session, event: &Event) {
        if let Event::Rejected { asked, .. } | Event::NoAnswer { asked, .. } = event
            && *asked == Asked::Connect
        {
            self.pause(now + self.patience);
        }
        if let Event::Connected { clean: true, .. } = event {
            for (filter, qos) in self.subscriptions.clone() {
                session.subscribe(now, filter, qos);
            }
        }
    }

    /// Starts what can start now. Every publish is reported to `sent`.
    pub fn advance(
        &mut self,
        now: Instant,
        session: &mut Session,
        mut sent: impl FnMut(Sent),
    ) -> Wishes {
        let mut wishes = Wishes::default();
        for _ in 0..STEPS_A_TURN {
            if self.pause_until.is_some_and(|until| now < until) {
                wishes.wake_up = self.pause_until;
                return wishes;
            }
            self.pause_until = None;
            if session.is_waiting() {
                return wishes;
            }
            if self.stays_connected && session.state() == State::Disconnected {
                session.connect(now);
                return wishes;
            }
            let Some(step) = self.next_step() else {
                return wishes;
            };
            if step.needs_session() && session.state() == State::Disconnected {
                self.stays_connected = true;
                self.steps.push_front(step);
                session.connect(now);
                return wishes;
            }
            if step.needs_active() && session.state() == State::Asleep {
                self.steps.push_front(step);
                session.resume(now);
                return wishes;
            }
            wishes.was_awake |= *step == Step::Wake && session.state() != State::Asleep;
            self.perform(now, session, &step, &mut sent);
            if *step == Step::Move {
                wishes.new_address = true;
                break;
            }
        }
        wishes.wake_up = Some(now + Duration::from_millis(1));
        wishes
    }

    fn next_step(&mut self) -> Option<Arc<Step>> {
        if self.steps.is_empty() {
            self.steps.extend(self.again.iter().cloned());
        }
        self.steps.pop_front()
    }

    fn perform(
        &mut self,
        now: Instant,
        session: &mut Session,
        step: &Step,
        sent: &mut impl FnMut(Sent),
    ) {
        match step {
            Step::Connect => {
                self.stays_connected = true;
                session.connect(now);
            }
            Step::Register(name) => {
                let name = self.render(session, name);
                session.register(now, name.into());
            }
            Step::Publish(publish) => self.publish(now, session, publish, sent),
            Step::Subscribe(filter, qos) => {
                let filter = self.topic(session, filter);
                self.subscriptions.retain(|(known, _)| *known != filter);
                self.subscriptions.push((filter.clone(), *qos));
                session.subscribe(now, filter, *qos);
            }
            Step::Unsubscribe(filter) => {
                let filter = self.topic(session, filter);
                self.subscriptions.retain(|(known, _)| *known != filter);
                session.unsubscribe(now, filter);
            }
            Step::Sleep(span) => {
                session.sleep(now, span.as_secs().clamp(1, 65_535) as u16);
                self.pause(now + *span);
            }
            Step::Wake => session.wake(now),
            Step::Ping => session.ping(now),
            Step::Will(will) => {
                let topic = self.render(session, &will.topic);
                let payload = Bytes::from(self.render(session, &will.payload));
                let will = Will {
                    topic,
                    payload: payload.clone(),
                    qos: will.qos,
                    retain: will.retain,
                };
                session.update_will_topic(now, Some(will));
                session.update_will_message(now, payload);
            }
            Step::Disconnect => {
                self.stays_connected = false;
                session.disconnect(now);
            }
            Step::Drop => {
                self.stays_connected = false;
                session.vanish();
            }
            Step::Move => {}
            Step::Wait(span) => self.pause(now + *span),
        }
    }

    fn publish(
        &mut self,
        now: Instant,
        session: &mut Session,
        step: &PublishStep,
        sent: &mut impl FnMut(Sent),
    ) {
        let publication = Publication {
            topic: self.topic(session, &step.topic),
            payload: self.render(session, &step.payload).into(),
            qos: step.qos,
            retain: step.retain,
        };
        self.published += 1;
        let ticket = session.publish(now, publication.clone());
        sent(Sent {
            ticket,
            publication,
        });
        if !step.every.is_zero() {
            self.pause(now + step.every);
        }
        if step.count > 1 {
            let mut rest = step.clone();
            rest.count -= 1;
            self.steps.push_front(Arc::new(Step::Publish(rest)));
        }
    }

    fn topic(&mut self, session: &Session, topic: &TopicStep) -> TopicRef {
        match topic {
            TopicStep::Name(name) => TopicRef::Name(self.render(session, name).into()),
            TopicStep::Predefined(id) => TopicRef::Predefined(*id),
            TopicStep::Short(octets) => TopicRef::Short(*octets),
        }
    }

    fn render(&mut self, session: &Session, template: &Template) -> String {
        let values = Values {
            index: self.index,
            client_id: &session.config().client_id,
            number: self.published,
        };
        template.render(values, &mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use mqtt_sn_gateway::wire::{MAX_MESSAGE, Packet, ReturnCode, decode};

    use super::*;
    use crate::clock;
    use crate::script::parse_line;
    use crate::session::Config;

    /// A player and its session; the gateway is whoever writes the test.
    struct Stage {
        player: Player,
        session: Session,
        now: Instant,
    }

    impl Stage {
        fn new(steps: &[&str], again: &[&str]) -> Self {
            let parse = |lines: &[&str]| -> Vec<Arc<Step>> {
                let steps = lines.iter().map(|line| parse_line(line).unwrap().unwrap());
                steps.map(Arc::new).collect()
            };
            let session = Session::new(Config {
                client_id: "n1".into(),
                keep_alive: 0,
                clean_session: true,
                will: None,
                retry: Duration::from_secs(10),
                retries: 3,
                window: 1,
                wireless_node_id: None,
            });
            let patience = Duration::from_secs(5);
            Self {
                player: Player::new(1, &parse(steps), parse(again).into(), patience, 1),
                session,
                now: clock::now(),
            }
        }

        /// Plays on and returns what the node sends.
        fn plays(&mut self) -> Vec<String> {
            while let Some(event) = self.session.poll_event() {
                self.player
                    .handle_event(self.now, &mut self.session, &event);
            }
            self.player.advance(self.now, &mut self.session, |_| {});
            std::iter::from_fn(|| self.session.poll_transmit())
                .map(|datagram| decode(&datagram).unwrap().to_string())
                .collect()
        }

        fn gets(&mut self, packet: Packet<'_>) -> Vec<String> {
            let mut datagram = BytesMut::new();
            packet.encode(MAX_MESSAGE, &mut datagram).unwrap();
            self.session.handle_datagram(self.now, &datagram);
            self.plays()
        }
    }

    const CONNACK: Packet<'_> = Packet::ConnAck {
        code: ReturnCode::Accepted,
    };
    const DISCONNECT: Packet<'_> = Packet::Disconnect { duration: None };

    #[test]
    fn a_sleepy_sensor_publishes_sleeps_wakes_and_connects_again() {
        let mut stage = Stage::new(&[], &["pub ab %n", "sleep 60", "wake"]);
        assert_eq!(stage.plays(), [r#"CONNECT "n1" keep-alive 0 s, clean"#]);
        assert_eq!(
            stage.gets(CONNACK),
            [
                r#"PUBLISH short "ab", qos 0, 1 octets "0""#,
                "DISCONNECT sleeps 60 s"
            ]
        );
        assert_eq!(stage.gets(DISCONNECT), [""; 0]);
        stage.now += Duration::from_secs(60);
        assert_eq!(stage.plays(), [r#"PINGREQ "n1""#]);
        assert_eq!(
            stage.gets(Packet::PingResp),
            [r#"CONNECT "n1" keep-alive 0 s"#]
        );
        assert_eq!(
            stage.gets(CONNACK)[0],
            r#"PUBLISH short "ab", qos 0, 1 octets "1""#
        );
    }

    #[test]
    fn a_node_that_is_thrown_out_connects_and_subscribes_again() {
        let mut stage = Stage::new(&["sub ab 1"], &[]);
        stage.plays();
        let subscribe = [r#"SUBSCRIBE short "ab", qos 1, msg 1"#];
        assert_eq!(stage.gets(CONNACK), subscribe);
        assert_eq!(
            stage.gets(DISCONNECT),
            [r#"CONNECT "n1" keep-alive 0 s, clean"#]
        );
        assert_eq!(
            stage.gets(CONNACK),
            [r#"SUBSCRIBE short "ab", qos 1, msg 2"#]
        );
    }

    #[test]
    fn a_refused_node_waits_before_it_asks_again() {
        let mut stage = Stage::new(&["connect"], &[]);
        stage.plays();
        let refusal = Packet::ConnAck {
            code: ReturnCode::Congestion,
        };
        assert_eq!(stage.gets(refusal), [""; 0]);
        stage.now += Duration::from_secs(5);
        assert_eq!(stage.plays().len(), 1);
    }

    #[test]
    fn a_dropped_node_says_nothing_and_does_not_come_back() {
        let mut stage = Stage::new(&["connect", "drop", "wait 1"], &[]);
        stage.plays();
        assert_eq!(stage.gets(CONNACK), [""; 0]);
        stage.now += Duration::from_secs(100);
        assert_eq!(stage.plays(), [""; 0]);
        assert!(stage.player.is_done(&stage.session, stage.now));
    }

    #[test]
    fn a_node_moves_before_it_goes_on() {
        let mut stage = Stage::new(&["connect", "move", "ping"], &[]);
        stage.plays();
        assert_eq!(stage.gets(CONNACK), [""; 0], "at the old address");
        assert_eq!(stage.plays(), ["PINGREQ"]);
    }

    #[test]
    fn a_node_that_is_not_asleep_is_not_woken() {
        let mut stage = Stage::new(&["connect", "wake"], &[]);
        stage.plays();
        let code = ReturnCode::Accepted;
        let mut datagram = BytesMut::new();
        let connack = Packet::ConnAck { code };
        connack.encode(MAX_MESSAGE, &mut datagram).unwrap();
        stage.session.handle_datagram(stage.now, &datagram);
        let wishes = stage.player.advance(stage.now, &mut stage.session, |_| {});
        assert!(wishes.was_awake);
        assert_eq!(stage.session.poll_transmit(), None);
    }

    #[test]
    fn qos_minus_one_never_connects() {
        let mut stage = Stage::new(&["pub ab 1 -1", "pub ab 2 -1"], &[]);
        assert_eq!(stage.plays().len(), 2);
        assert_eq!(stage.session.state(), State::Disconnected);
    }
}
