//! One gateway, one broker, the wires between, and everything that happens to them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::clock::sleep;
use crate::disk::Disk;
use crate::process::{Program, free_tcp_port, free_udp_port};
use crate::relay::Relay;
use crate::{Options, Store};

/// How the gateway reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Setup {
    /// A connection a node; the broker acknowledges
    PerNode,
    /// A connection a node; the store acknowledges what nodes publish
    Uplink,
    /// A few connections for all nodes
    Shared,
    /// A few connections for all nodes; the store acknowledges what nodes publish
    SharedUplink,
}

impl Setup {
    /// The keys of `broker` it takes.
    fn keys(self) -> &'static str {
        match self {
            Self::PerNode => "",
            Self::Uplink => ", uplink: store",
            Self::Shared => ", mode: shared",
            Self::SharedUplink => ", mode: shared, uplink: store",
        }
    }
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL to the gateway
    Kill,
    /// SIGTERM to the gateway
    Terminate,
    /// SIGKILL to the broker
    KillBroker,
    /// SIGTERM to the broker, which saves what it has
    RestartBroker,
    /// SIGSTOP and SIGCONT to the broker
    FreezeBroker,
    /// Every connection between the two is cut
    Cut,
}

impl Fault {
    /// How often it comes, compared with the others.
    fn weight(self) -> u32 {
        match self {
            Self::Kill => 6,
            Self::KillBroker => 3,
            Self::Cut => 2,
            Self::Terminate | Self::RestartBroker | Self::FreezeBroker => 1,
        }
    }
}

/// The programs.
pub(crate) struct World {
    gateway: Program,
    pub(crate) gateway_port: u16,
    broker: Program,
    disk: Disk,
    /// Between the gateway and the broker.
    wire: Relay,
    /// Between the broker and everybody else.
    others: Relay,
}

impl World {
    pub(crate) fn start(options: &Options, setup: Setup, directory: &Path) -> io::Result<Self> {
        let broker_port = free_tcp_port()?;
        let place = directory.display();
        let mosquitto = directory.join("mosquitto.conf");
        fs::write(
            &mosquitto,
            format!(
                "listener {broker_port} 127.0.0.1\nallow_anonymous true\nuser root\n\
                 persistence true\npersistence_location {place}/\nautosave_interval 1\n\
                 autosave_on_changes true\nmax_queued_messages 0\nmax_inflight_messages 100\n\
                 log_type all\n"
            ),
        )?;
        let broker = Program::start(
            &options.mosquitto,
            &["-c", &mosquitto.to_string_lossy()],
            directory.join("mosquitto.log"),
        )?;
        let disk = Disk::watch(directory.join("mosquitto.db"), broker_port);
        let wire = Relay::start(broker_port, disk.clone())?;
        let others = Relay::start(broker_port, disk.clone())?;
        let gateway_port = free_udp_port()?;
        let store = match options.store {
            Store::Memory => String::new(),
            Store::Disk => format!("store: {{path: {place}/store, required: true}}"),
        };
        let yaml = directory.join("gateway.yaml");
        fs::write(
            &yaml,
            format!(
                "broker: {{url: 'mqtt://127.0.0.1:{}', backoff: {{first: 50ms, longest: 500ms}}{}}}\n\
                 links: [{{type: udp, listen: ['127.0.0.1:{gateway_port}'], retry: 500ms}}]\n\
                 topics: {{predefined: {{'*': {{1: 'up/${{client_id}}', 2: 'down/${{client_id}}'}}}}}}\n\
                 http: off\nmanagement: off\n{store}\n{}\n",
                wire.port,
                setup.keys(),
                options.config
            ),
        )?;
        let gateway = Program::start(
            &options.gateway,
            &["--config", &yaml.to_string_lossy()],
            directory.join("gateway.log"),
        )?;
        Ok(Self {
            gateway,
            gateway_port,
            broker,
            disk,
            wire,
            others,
        })
    }

    /// Returns where MQTT clients reach the broker.
    pub(crate) fn broker_port(&self) -> u16 {
        self.others.port
    }

    /// Injects the faults; returns how many of each.
    pub(crate) fn torment(
        &mut self,
        options: &Options,
        rng: &mut fastrand::Rng,
    ) -> io::Result<BTreeMap<Fault, u32>> {
        let mut injected = BTreeMap::new();
        let weights: u32 = options.only.iter().map(|fault| fault.weight()).sum();
        for _ in 0..options.faults {
            sleep(Duration::from_millis(rng.u64(100..1200)));
            let mut place = rng.u32(0..weights);
            let mut faults = options.only.iter().copied();
            let chosen = faults.find(|fault| {
                let found = place < fault.weight();
                place = place.saturating_sub(fault.weight());
                found
            });
            let fault = chosen.unwrap_or(Fault::Kill);
            self.inject(fault, Duration::from_millis(rng.u64(0..400)))?;
            *injected.entry(fault).or_default() += 1;
            for (name, program) in [("gateway", &mut self.gateway), ("broker", &mut self.broker)] {
                if program.has_ended() {
                    return Err(io::Error::other(format!(
                        "the {name} ended by itself; --keep DIRECTORY keeps its log"
                    )));
                }
            }
        }
        Ok(injected)
    }

    fn inject(&mut self, fault: Fault, pause: Duration) -> io::Result<()> {
        match fault {
            Fault::Kill => {
                self.gateway.kill()?;
                sleep(pause);
                self.gateway.restart()
            }
            Fault::Terminate => {
                self.gateway.terminate()?;
                sleep(pause);
                self.gateway.restart()
            }
            Fault::KillBroker => {
                self.broker.kill()?;
                self.disk.broker_is_dead();
                sleep(pause);
                self.broker.restart()
            }
            Fault::RestartBroker => {
                self.broker.terminate()?;
                self.disk.broker_is_dead();
                sleep(pause);
                self.broker.restart()
            }
            Fault::FreezeBroker => {
                self.broker.signal("STOP")?;
                sleep(pause * 4);
                self.broker.signal("CONT")
            }
            Fault::Cut => {
                self.wire.cut();
                Ok(())
            }
        }
    }
}
