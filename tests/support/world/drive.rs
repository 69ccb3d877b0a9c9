//! Any octets are a course of events: the way a fuzzer drives the World.

use std::time::Duration;

use mqtt_sn_gateway::gateway::LinkId;
use mqtt_sn_gateway::wire::{QoS, TopicId};

use crate::broker::Mood;
use crate::device::{Attack, Attacker, Chore, Interest, Plan, Season, Subject};
use crate::fleet::{Report, settings};
use crate::link::Impairment;
use crate::transcript::Transcript;
use crate::violation::Violation;
use crate::world::{Act, World};

/// Events one input may hold; more octets are not looked at.
const EVENTS_MAX: usize = 512;

/// Lets a small fleet live through the events that the octets spell, three octets an event, then through
/// calm to the end.
pub fn drive(octets: &[u8], transcript: Transcript) -> Report {
    let seed = u64::from(octets.first().copied().unwrap_or(0));
    let mut world = World::new(settings(), seed);
    world.transcript = transcript;
    let outcome = live(&mut world, octets, seed);
    Report::of(world, outcome)
}

fn live(world: &mut World, octets: &[u8], seed: u64) -> Result<(), Violation> {
    for number in 0..3 {
        world.add_device(plan(number, seed), Impairment::PERFECT);
    }
    for attack in Attack::ALL {
        let victim = (attack == Attack::Spoof).then(|| "d2".to_owned());
        world.add_attacker(Attacker::new(attack, victim, seed));
    }
    for event in octets
        .get(1..)
        .unwrap_or_default()
        .chunks_exact(3)
        .take(EVENTS_MAX)
    {
        world.run_for(Duration::from_millis(u64::from(event[2]).pow(2)))?;
        apply(world, event[0], event[1]);
    }
    world.schedule(world.now(), Act::Mood(Mood::default()));
    world.schedule(world.now(), Act::Weather(Impairment::PERFECT));
    world.enter(Season::Calm);
    world.run_for(Duration::from_secs(3_600))?;
    world.check_calm()?;
    world.enter(Season::Over);
    world.run_for(Duration::from_secs(600))
}

fn plan(number: u16, seed: u64) -> Plan {
    let client_id = format!("d{number}");
    Plan {
        link: LinkId(number % 2),
        clean: (seed >> number) & 1 == 1,
        will: true,
        interests: vec![
            (Interest::Name("t/#".to_owned()), QoS::ExactlyOnce),
            (Interest::Predefined(TopicId(1)), QoS::AtLeastOnce),
        ],
        sleep: (number == 1).then_some(100),
        ..Plan::idle(&client_id)
    }
}

fn apply(world: &mut World, what: u8, how: u8) {
    let device = usize::from(how) % 3;
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(how / 3) % 3];
    let now = world.now();
    let pick = usize::from(how);
    let size = pick % 90;
    match what % 12 {
        0 => {
            world.publish_from(device, Subject::Name(format!("t/{}", how % 4)), qos);
        }
        1 => {
            let subject = Subject::Predefined(TopicId(1), "predef/one".to_owned());
            world.publish_from(device, subject, qos);
        }
        2 => world.schedule(
            now,
            Act::Publish(format!("t/{}", how % 8), qos, how > 200, size),
        ),
        3 => world.schedule(now, Act::Publish("predef/one".to_owned(), qos, false, size)),
        4 => world.schedule(now, Act::Cut(pick)),
        5 => {
            let mood = Mood {
                refuse: None,
                stalled: how & 1 != 0,
                vanished: how & 2 != 0,
                mute: false,
                eager: how & 8 != 0,
            };
            world.schedule(now, Act::Mood(mood));
        }
        6 => {
            let share = f64::from(how % 64) / 128.0;
            let impairment = Impairment {
                loss: share,
                duplicate: if how & 64 != 0 { share } else { 0.0 },
                reorder: if how & 128 != 0 { share } else { 0.0 },
                jitter: Duration::from_millis(u64::from(how)),
                ..Impairment::PERFECT
            };
            world.schedule(now, Act::Weather(impairment));
        }
        7 => {
            world.schedule(now, Act::Babble(pick, vec![how; 5]));
            world.schedule(now + Duration::from_secs(5), Act::CutAll);
        }
        8 => world.strike(pick % Attack::ALL.len()),
        9 => world.schedule(now, Act::Chore(device, Chore::Reboot)),
        10 => world.schedule(now, Act::Chore(device, Chore::Move)),
        _ => world.schedule(now, Act::Chore(device, Chore::Leave)),
    }
}
