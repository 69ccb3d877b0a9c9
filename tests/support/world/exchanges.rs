//! Every exchange of the protocol once, and a fault at any step of them.

use std::time::Duration;

use mqtt_sn_gateway::gateway::{Mode, Settings};
use mqtt_sn_gateway::wire::{QoS, TopicId};

use crate::broker::Mood;
use crate::device::{Chore, Interest, Plan, Subject};
use crate::fleet::{Report, live_on, settings, shared};
use crate::link::{Impairment, Slip};
use crate::transcript::Transcript;
use crate::violation::Violation;
use crate::world::{Act, World};

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The broker's side breaks every connection.
    Cut,
    /// The broker is gone for three seconds.
    ShortOutage,
    /// The broker is gone for longer than nodes are spared the news.
    LongOutage,
    /// The broker reads and says nothing for eight seconds, then breaks every connection.
    Stall,
    /// The gateway dies, and is back at once with what its store kept.
    Restart,
    /// The gateway dies, is back at once, and has no store.
    RestartWithoutStore,
    /// Gateway and broker connections die, and the gateway is back after the broker's patience.
    LateRestart,
    /// The next datagram is lost.
    Loss,
    /// The next datagram arrives twice.
    Copy,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cut,
        Self::ShortOutage,
        Self::LongOutage,
        Self::Stall,
        Self::Restart,
        Self::RestartWithoutStore,
        Self::LateRestart,
        Self::Loss,
        Self::Copy,
    ];

    fn keeps_sessions(self) -> bool {
        self != Self::RestartWithoutStore
    }

    /// Returns what happens at the step, and later.
    fn acts(self) -> (Act, Option<(Duration, Act)>) {
        let vanished = Act::Mood(Mood {
            vanished: true,
            ..Mood::default()
        });
        let back = |seconds| Some((Duration::from_secs(seconds), Act::Mood(Mood::default())));
        match self {
            Self::Cut => (Act::CutAll, None),
            Self::ShortOutage => (vanished, back(3)),
            Self::LongOutage => (vanished, back(70)),
            Self::Stall => {
                let stalled = Act::Mood(Mood {
                    stalled: true,
                    ..Mood::default()
                });
                (stalled, back(8))
            }
            Self::Restart | Self::RestartWithoutStore => (Act::Crash(Duration::ZERO), None),
            Self::LateRestart => (Act::Crash(Duration::from_secs(20)), None),
            Self::Loss => (Act::Slip(Slip::Lost), None),
            Self::Copy => (Act::Slip(Slip::Doubled), None),
        }
    }
}

/// Lets three nodes go through every exchange; returns what it came to, and the steps it took. With a
/// fault, that happens right before its step, counted from 1.
pub fn run_exchanges(
    seed: u64,
    mode: Mode,
    fault: Option<(u64, Fault)>,
    transcript: Transcript,
) -> (Report, u64) {
    let settings = Settings {
        keep_sessions: fault.is_none_or(|(_, fault)| fault.keeps_sessions()),
        ..settings()
    };
    let settings = match mode {
        Mode::PerNode => settings,
        Mode::Shared => shared(settings),
    };
    let mut world = World::new(settings, seed);
    world.transcript = transcript;
    if let Some((step, fault)) = fault {
        let (act, later) = fault.acts();
        world.set_trap(step, act, later);
    }
    populate(&mut world);
    let mut steps = 0;
    let outcome = live(&mut world, &mut steps);
    (Report::of(world, outcome), steps)
}

fn live(world: &mut World, steps: &mut u64) -> Result<(), Violation> {
    world.run_for(Duration::from_secs(30))?;
    *steps = world.steps_taken();
    // What went wrong shall be over.
    world.run_for(Duration::from_secs(100))?;
    live_on(world)
}

fn populate(world: &mut World) {
    let plan = |name: &str| Plan {
        will: true,
        ..Plan::idle(name)
    };
    let sleeper = Plan {
        clean: false,
        interests: vec![
            (Interest::Name("x/#".to_owned()), QoS::ExactlyOnce),
            (Interest::Predefined(TopicId(1)), QoS::AtLeastOnce),
        ],
        ..plan("sleeper")
    };
    let talker = Plan {
        clean: false,
        interests: vec![
            (Interest::Name("x/+".to_owned()), QoS::ExactlyOnce),
            (Interest::Name("cmd".to_owned()), QoS::AtLeastOnce),
            (Interest::Short(*b"sh"), QoS::AtMostOnce),
        ],
        ..plan("talker")
    };
    let guest = Plan {
        interests: vec![(Interest::Name("x/b".to_owned()), QoS::ExactlyOnce)],
        ..plan("guest")
    };
    let [sleeper, talker, guest] =
        [sleeper, talker, guest].map(|plan| world.add_device(plan, Impairment::PERFECT));

    let mut at = Duration::from_secs(2);
    let mut chore = |device, chore| {
        world.schedule(at, Act::Chore(device, chore));
        at += Duration::from_millis(250);
    };
    chore(sleeper, Chore::Sleep(8));
    for qos in LEVELS {
        chore(talker, Chore::Publish(Subject::Name("x/a".to_owned()), qos));
        chore(guest, Chore::Publish(Subject::Name("x/b".to_owned()), qos));
        let predefined = Subject::Predefined(TopicId(1), "predef/one".to_owned());
        chore(talker, Chore::Publish(predefined, qos));
        chore(guest, Chore::Publish(Subject::Short(*b"sh"), qos));
    }
    chore(talker, Chore::RewriteWill);
    chore(talker, Chore::Resubscribe);
    chore(guest, Chore::Resubscribe);
    let messages = [
        ("x/a", 0),
        ("x/c", 1),
        ("x/c", 2),
        ("cmd", 1),
        ("predef/one", 2),
        ("sh", 0),
    ];
    for (topic, qos) in messages {
        let act = Act::Publish(topic.to_owned(), LEVELS[qos], false, 10);
        world.schedule(at, act);
        at += Duration::from_millis(200);
    }
    let mut chore = |device, chore| {
        world.schedule(at, Act::Chore(device, chore));
        at += Duration::from_millis(400);
    };
    chore(talker, Chore::Sleep(6));
    chore(guest, Chore::Leave);
    chore(talker, Chore::Move);
    world.schedule(
        at,
        Act::Publish("x/d".to_owned(), QoS::ExactlyOnce, false, 10),
    );
    world.schedule(
        at,
        Act::Publish("x/d".to_owned(), QoS::AtLeastOnce, false, 10),
    );
}

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
