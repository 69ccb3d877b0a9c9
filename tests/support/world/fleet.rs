//! Mixed fleets and their weather, drawn from a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use mqtt_protocol_core::mqtt::result_code::ConnectReturnCode;
use mqtt_sn_gateway::gateway::{LinkId, LinkSettings, Mode, Network, QosMinusOne, Settings};
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::topics::{Pattern, Predefined};
use mqtt_sn_gateway::wire::{QoS, ReturnCode, TopicId};

use crate::broker::Mood;
use crate::cable::Trouble;
use crate::device::{Attack, Attacker, Interest, Plan, Season, Stance, Subject};
use crate::link::Impairment;
use crate::transcript::Transcript;
use crate::violation::Violation;
use crate::world::{Act, Traffic, World};

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const CALM: Duration = Duration::from_secs(3_600);
const CALM_HOURS_MAX: usize = 100;
/// After so many of them nobody sleeps any more: of a long queue a sleeper takes little at a time.
const SLEEPY_HOURS: usize = 10;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// The first broken rule, if one was broken.
    pub outcome: Result<(), Violation>,
    /// Equal for two runs of one seed.
    pub fingerprint: u64,
    /// Datagrams and octets.
    pub traffic: Traffic,
    /// Frames that came off a serial line and that nobody sent.
    pub undetected: usize,
    /// Messages published.
    pub messages: usize,
    /// Messages handed to an application.
    pub delivered: u64,
    /// The packets, if they were recorded.
    pub transcript: Transcript,
}

/// Returns the gateway's settings in the World: a UDP link with forwarders and QoS -1, a radio link for
/// short messages, pre-defined topics 1 and 2, no store.
pub fn settings() -> Settings {
    let mut predefined = Predefined::default();
    let topics = [(1, "predef/one"), (2, "predef/${client_id}")];
    let topics: BTreeMap<TopicId, String> = topics
        .into_iter()
        .map(|(id, name)| (TopicId(id), name.to_owned()))
        .collect();
    predefined.insert(Pattern::new("*"), topics);
    Settings {
        advertise: None,
        links: vec![
            LinkSettings {
                forwarders: vec![Network::Any],
                qos_minus_one: Some(QosMinusOne {
                    allow: vec![Network::Any],
                    topics: None,
                    named_topics: false,
                }),
                ..LinkSettings::udp("udp")
            },
            LinkSettings {
                max_message: 120,
                ..LinkSettings::udp("radio")
            },
        ],
        predefined: Arc::new(predefined),
        ..Settings::default()
    }
}

/// Returns settings by which a few connections of the gateway's own carry all nodes.
pub(crate) fn shared(mut settings: Settings) -> Settings {
    settings.upstream.mode = Mode::Shared;
    settings.upstream.shared.status_topic = Some("gateway/status".into());
    settings
}

/// Leaves room for so few messages of a node, or of all, that bursts do not fit.
fn narrow(settings: &mut Settings, rng: &mut Rng) {
    if rng.bool() {
        settings.limits.queued_bytes = rng.usize(500..4_000);
    }
    settings.session.queue = rng.usize(1..12);
    settings.session.queue_qos0 = rng.usize(1..6);
    settings.upstream.queue_qos0 = settings.session.queue_qos0;
}

/// Runs the fleet of a seed through lively and calm times to its end.
pub fn run_seed(seed: u64, transcript: Transcript) -> Report {
    let mut rng = Rng::with_seed(seed);
    let crashes = rng.u8(..3) == 0;
    let settings = Settings {
        keep_sessions: crashes && rng.u8(..4) != 0,
        ..settings()
    };
    let mut settings = if seed % 4 == 3 {
        shared(settings)
    } else {
        settings
    };
    if seed % 3 == 1 {
        narrow(&mut settings, &mut Rng::with_seed(!seed));
    }
    let mut world = World::new(settings, seed);
    world.transcript = transcript;
    let lively = Duration::from_secs(rng.u64(300..2_400));
    populate(&mut world, &mut rng, lively);
    if rng.u8(..4) == 0 {
        attack(&mut world, &mut rng);
    }
    if rng.u8(..3) == 0 {
        misbehave(&mut world, &mut rng, lively);
    }
    if crashes {
        crash(&mut world, &mut rng, lively);
    }
    chatter(&mut world, &mut rng, lively);
    let outcome = live(&mut world, lively);
    Report::of(world, outcome)
}

/// Runs the fleet of a seed behind one dongle at a serial port, through lively and calm times to its end.
pub fn run_serial_seed(seed: u64, framing: Framing, transcript: Transcript) -> Report {
    const DONGLE: LinkId = LinkId(1);
    let mut rng = Rng::with_seed(seed);
    let mut settings = settings();
    // A module that keeps a report to itself holds its node's next message back for 10 s.
    settings.links[usize::from(DONGLE.0)] = LinkSettings {
        retry: Duration::from_secs(if framing == Framing::XBee { 15 } else { 10 }),
        ..LinkSettings::serial("dongle", 255)
    };
    let mut world = World::new(settings, seed);
    world.transcript = transcript;
    world.add_dongle(DONGLE, framing, Trouble::draw(&mut rng, framing));
    let lively = Duration::from_secs(rng.u64(300..2_400));
    let impairment = Impairment::draw(&mut rng);
    for number in 0..rng.usize(1..9) {
        let plan = draw_plan(&mut rng, number, lively);
        let node = (framing != Framing::XBee).then(|| plan.client_id.clone().into_bytes());
        let plan = Plan {
            link: DONGLE,
            node,
            ..plan
        };
        world.add_device(plan, impairment);
    }
    if rng.u8(..3) == 0 {
        misbehave(&mut world, &mut rng, lively);
    }
    for _ in 0..rng.usize(..4) {
        let time = Duration::from_millis(rng.u64(500..90_000));
        world.schedule(lively.mul_f64(rng.f64()), Act::Unplug(DONGLE, time));
    }
    chatter(&mut world, &mut rng, lively);
    let outcome = live(&mut world, lively);
    Report::of(world, outcome)
}

impl Report {
    pub(crate) fn of(world: World, outcome: Result<(), Violation>) -> Self {
        let messages = world.ledger.messages().count();
        let delivered = world.ledger.deliveries();
        Self {
            outcome,
            fingerprint: world.transcript.fingerprint(),
            traffic: world.traffic,
            undetected: world.undetected(),
            messages,
            delivered,
            transcript: world.transcript,
        }
    }
}

fn live(world: &mut World, lively: Duration) -> Result<(), Violation> {
    world.run_for(lively)?;
    live_on(world)
}

/// Calm, so that everything can be finished, then the end; both are checked.
pub(crate) fn live_on(world: &mut World) -> Result<(), Violation> {
    world.schedule(world.now(), Act::Mood(Mood::default()));
    world.schedule(world.now(), Act::Weather(Impairment::PERFECT));
    world.enter(Season::Calm);
    world.run_for(CALM)?;
    // A sleeper takes so many messages a wake-up, and a node that refuses some takes its time for each;
    // who still makes progress gets more time.
    let mut before = None;
    for hour in 0..CALM_HOURS_MAX {
        let now = (world.owed(), world.given_up(), world.ledger.deliveries());
        if now.0 == 0 || before == Some(now) {
            break;
        }
        before = Some(now);
        if hour == SLEEPY_HOURS {
            world.rouse();
        }
        world.run_for(CALM)?;
    }
    world.check_calm()?;
    world.enter(Season::Over);
    world.run_for(Duration::from_secs(600))?;
    world.check_rest()
}

fn populate(world: &mut World, rng: &mut Rng, lively: Duration) {
    let impairment = Impairment::draw(rng);
    for number in 0..rng.usize(1..9) {
        let plan = draw_plan(rng, number, lively);
        world.add_device(plan, impairment);
    }
}

fn draw_plan(rng: &mut Rng, number: usize, lively: Duration) -> Plan {
    let client_id = format!("d{number}");
    if rng.u8(..8) == 0 {
        return draw_button(rng, &client_id);
    }
    let behind_forwarder = rng.u8(..5) == 0;
    let sleeps = rng.u8(..3) == 0;
    let some = |rng: &mut Rng, one_in: u8| rng.u8(..one_in) == 0;
    // A message that is too long for its link would be repeated for ever.
    let too_long = some(rng, 8);
    let mut subjects = draw_subjects(rng, &client_id);
    if too_long {
        subjects.retain(|(_, qos)| *qos == QoS::AtMostOnce);
    }
    Plan {
        link: LinkId(u16::from(!behind_forwarder && some(rng, 5))),
        node: behind_forwarder.then(|| client_id.as_bytes().to_vec()),
        clean: if sleeps { some(rng, 8) } else { rng.bool() },
        keep_alive: [30, 60, 120, 300][rng.usize(..4)],
        will: rng.bool(),
        interests: draw_interests(rng, &client_id),
        subjects,
        publish_every: (!some(rng, 4)).then(|| Duration::from_secs(rng.u64(2..90))),
        payload: if too_long {
            300
        } else {
            [0, 8, 40, 80][rng.usize(..4)]
        },
        stance: draw_stance(rng),
        sleep: sleeps.then(|| rng.u16(90..400)),
        roams: some(rng, 5),
        reboots: some(rng, 5),
        stutters: some(rng, 6),
        leaves: some(rng, 4),
        rewrites_will: some(rng, 4),
        fickle: some(rng, 4),
        dies_at: some(rng, 8).then(|| lively.mul_f64(0.2 + 0.7 * rng.f64())),
        starts_at: Duration::from_millis(rng.u64(..60_000)),
        ..Plan::idle(&client_id)
    }
}

/// A node that never connects, on either link: the radio link takes no QoS -1.
fn draw_button(rng: &mut Rng, client_id: &str) -> Plan {
    let subjects = [
        Subject::Predefined(TopicId(1), "predef/one".to_owned()),
        Subject::Short(*b"sh"),
    ];
    Plan {
        button: true,
        link: LinkId(rng.u16(..2)),
        subjects: subjects.map(|subject| (subject, QoS::MinusOne)).into(),
        publish_every: Some(Duration::from_secs(rng.u64(2..90))),
        stutters: rng.bool(),
        ..Plan::idle(client_id)
    }
}

fn draw_stance(rng: &mut Rng) -> Stance {
    match rng.u8(..14) {
        0 => Stance::Refuses(ReturnCode::Congestion),
        1 => Stance::Refuses(ReturnCode::NotSupported),
        2 => Stance::Refuses(ReturnCode::InvalidTopicId),
        3 => Stance::Ignores,
        4 | 5 => Stance::Chokes(rng.u32(2..20)),
        _ => Stance::Takes,
    }
}

fn draw_interests(rng: &mut Rng, client_id: &str) -> Vec<(Interest, QoS)> {
    let candidates = [
        Interest::Name(format!("cmd/{client_id}")),
        Interest::Name("news/+".to_owned()),
        Interest::Name("d/#".to_owned()),
        Interest::Name("news/a".to_owned()),
        Interest::Predefined(TopicId(1)),
        Interest::Predefined(TopicId(2)),
        Interest::Short(*b"sh"),
    ];
    candidates
        .into_iter()
        .filter_map(|interest| (rng.u8(..3) == 0).then(|| (interest, LEVELS[rng.usize(..3)])))
        .collect()
}

fn draw_subjects(rng: &mut Rng, client_id: &str) -> Vec<(Subject, QoS)> {
    let candidates = [
        Subject::Name(format!("d/{client_id}/0")),
        Subject::Name(format!("d/{client_id}/1")),
        Subject::Name("news/d".to_owned()),
        Subject::Predefined(TopicId(1), "predef/one".to_owned()),
        Subject::Predefined(TopicId(2), format!("predef/{client_id}")),
        Subject::Short(*b"sh"),
    ];
    candidates
        .into_iter()
        .filter_map(|subject| rng.bool().then(|| (subject, LEVELS[rng.usize(..3)])))
        .collect()
}

/// Other clients of the broker publish to the devices.
fn chatter(world: &mut World, rng: &mut Rng, lively: Duration) {
    let every = [3, 20, 60, 200][rng.usize(..4)];
    let mut at = Duration::from_secs(20);
    while at < lively {
        let device = rng.usize(..8);
        let topic = match rng.u8(..6) {
            0 => format!("cmd/d{device}"),
            1 => format!("predef/d{device}"),
            2 => "predef/one".to_owned(),
            3 => "sh".to_owned(),
            4 => "news/a".to_owned(),
            _ => format!("news/{}", rng.u8(..4)),
        };
        let retain = rng.u8(..10) == 0;
        let size = if rng.u8(..12) == 0 {
            rng.usize(60..400)
        } else {
            rng.usize(..60)
        };
        let act = Act::Publish(topic, LEVELS[rng.usize(..3)], retain, size);
        for _ in 0..[1, 1, 1, 30][rng.usize(..4)] {
            world.schedule(at, act.clone());
        }
        at += Duration::from_secs(rng.u64(1..=every));
    }
}

/// The broker has bad moments.
fn misbehave(world: &mut World, rng: &mut Rng, lively: Duration) {
    for _ in 0..rng.usize(1..6) {
        let at = lively.mul_f64(rng.f64());
        let until = at + Duration::from_secs(rng.u64(1..90));
        let mood = Mood::default();
        let act = match rng.u8(..7) {
            0 => Act::Mood(Mood {
                refuse: Some(ConnectReturnCode::ServerUnavailable),
                ..mood
            }),
            1 => Act::Mood(Mood {
                stalled: true,
                ..mood
            }),
            2 => Act::Mood(Mood {
                vanished: true,
                ..mood
            }),
            3 => Act::Mood(Mood {
                eager: true,
                ..mood
            }),
            4 => Act::Mood(Mood { mute: true, ..mood }),
            5 => Act::Babble(
                rng.usize(..100),
                (0..rng.usize(1..40)).map(|_| rng.u8(..)).collect(),
            ),
            _ => Act::Cut(rng.usize(..100)),
        };
        if matches!(act, Act::Babble(..)) {
            // Garbage may have swallowed what was sent after it.
            world.schedule(at + Duration::from_secs(5), Act::CutAll);
        }
        if matches!(act, Act::Mood(_)) {
            world.schedule(until, Act::Mood(mood));
        }
        if matches!(act, Act::Mood(Mood { mute: true, .. })) {
            // TCP loses no acknowledgement; a broker that swallowed some has crashed.
            world.schedule(until, Act::CutAll);
        }
        world.schedule(at, act);
    }
}

/// The gateway dies now and then, sometimes twice in a row.
fn crash(world: &mut World, rng: &mut Rng, lively: Duration) {
    for _ in 0..rng.usize(1..4) {
        let at = lively.mul_f64(rng.f64());
        let pause = Duration::from_millis([0, 500, 20_000][rng.usize(..3)]);
        world.schedule(at, Act::Crash(pause));
        if rng.u8(..4) == 0 {
            let again = at + pause + Duration::from_millis(rng.u64(1..3_000));
            world.schedule(again, Act::Crash(pause));
        }
    }
}

fn attack(world: &mut World, rng: &mut Rng) {
    for _ in 0..rng.usize(1..4) {
        let attack = Attack::ALL[rng.usize(..Attack::ALL.len())];
        let victim = (attack == Attack::Spoof).then(|| "d0".to_owned());
        let index = world.add_attacker(Attacker::new(attack, victim, rng.u64(..)));
        let every = Duration::from_millis([500, 2_000, 9_000][rng.usize(..3)]);
        world.schedule(
            Duration::from_secs(rng.u64(..200)),
            Act::Strike(index, every),
        );
    }
}
