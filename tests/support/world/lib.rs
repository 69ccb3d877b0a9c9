//! A deterministic world around the gateway: nodes on bad links below it, a broker above it, one clock
//! and one seed. Nothing here waits, sleeps or reads a clock; an hour of a thousand nodes takes seconds.
//!
//! ```text
//!  Device --+                +---------+                 +--------+
//!  Device --+-- Direction ---| Gateway |------ Tcp ------| Broker |
//!  Attacker +   (lossy)      +---------+  (split, late)  +--------+
//!                    ^            ^
//!                    Observer: checks every packet against the rules
//! ```
//!
//! [`World`] feeds the real [`Gateway`] and drains it. [`Device`] is a client written from the
//! specification, not from the gateway; [`Broker`] speaks MQTT with a library nobody here wrote. The
//! [`Observer`] watches the gateway's edge, the [`Ledger`] follows each message from its publisher to
//! its readers. A broken [`Rule`] ends the run with a [`Violation`].
//!
//! ```
//! use std::time::Duration;
//! use mqtt_sn_world::{Impairment, Plan, World, settings};
//!
//! let mut world = World::new(settings(), 42);
//! world.add_device(Plan::idle("node1"), Impairment::lossy(0.1));
//! world.run_for(Duration::from_secs(3_600)).expect("no rule is broken");
//! ```
//!
//! [`run_seed`] runs a whole mixed fleet, drawn from the seed, through fair and foul weather.

mod broker;
mod cable;
mod carried;
mod clock;
mod crowded;
mod device;
mod dongle;
mod drive;
mod exchanges;
mod fleet;
mod ledger;
mod link;
mod observer;
mod store;
mod tcp;
mod transcript;
mod verdict;
mod violation;
mod world;

pub use broker::{Broker, Mood};
pub use cable::Trouble;
pub use clock::{Agenda, Clock};
pub use device::{
    Attack, AttackOrigin, Attacker, Chore, Client, Deed, Device, Event, Identity, Interest, Plan,
    Season, Stance, State, Subject, Testament,
};
pub use drive::drive;
pub use exchanges::{Fault, run_exchanges};
pub use fleet::{Report, run_seed, run_serial_seed, settings};
pub use ledger::{Confirmed, Ledger, Message, MessageId, Receipt};
pub use link::{Direction, Impairment, Slip, damage};
pub use observer::Observer;
pub use transcript::Transcript;
pub use violation::{Rule, Violation};
pub use world::{Act, Traffic, World};

#[doc(no_inline)]
pub use mqtt_sn_gateway::gateway::Gateway;
