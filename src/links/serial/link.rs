//! The task of one serial link: joins its lines, its radio and the daemon.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::devices;
use super::line::{Line, LineEvent};
use super::port::Flow;
use super::radio::{Event, Lane, Module, Notice, Radio, radio};
use super::silence::Silence;
use super::stream::Device;
use super::{Heard, Order, SerialConfig, SerialEvent, SerialStats};
use crate::gateway::LinkId;

/// How soon what could not be done is tried again.
const BLOCKED_PAUSE: Duration = Duration::from_millis(10);

/// The task's state.
pub(super) struct Link {
    id: LinkId,
    config: SerialConfig,
    main: Line,
    transmit: Option<Line>,
    radio: Box<dyn Radio>,
    events: mpsc::Sender<SerialEvent>,
    orders: mpsc::Receiver<Order>,
    stats: Arc<Mutex<SerialStats>>,
    current: SerialStats,
    /// Whether people were told that the link is down, and not yet that it is up.
    told_down: bool,
    told_stuck: bool,
    /// The module people were told of.
    told_module: Option<Module>,
    silence: Silence,
}

impl Link {
    pub(super) fn new(
        id: LinkId,
        config: SerialConfig,
        events: mpsc::Sender<SerialEvent>,
        orders: mpsc::Receiver<Order>,
        stats: Arc<Mutex<SerialStats>>,
    ) -> Self {
        let line = |device: &Device| Line::new(device.clone(), config.port);
        Self {
            id,
            main: line(&config.device),
            transmit: config.transmit_device.as_ref().map(line),
            radio: radio(&config.radio_settings()),
            events,
            orders,
            stats,
            current: SerialStats::default(),
            told_down: false,
            told_stuck: false,
            told_module: None,
            silence: Silence::new(config.silence),
            config,
        }
    }

    /// Runs until the daemon drops its end.
    pub(super) async fn run(mut self) {
        loop {
            self.publish_stats();
            let deadline = self.poll_timeout();
            tokio::select! {
                biased;
                event = self.main.next() => self.handle_line(Lane::Main, event),
                event = next(self.transmit.as_mut()) => self.handle_line(Lane::Transmit, event),
                order = self.orders.recv() => match order {
                    Some(order) => self.handle_order(order),
                    None => return,
                },
                () = sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => {}
            }
            let now = now();
            if self.is_open() {
                self.radio.handle_timeout(now);
                self.doubt(now);
            }
            self.write_out(now);
            if !self.report().await {
                return;
            }
        }
    }

    fn is_open(&self) -> bool {
        self.main.is_open() && self.transmit.as_ref().is_none_or(Line::is_open)
    }

    fn is_writable(&self) -> bool {
        self.main.is_writable() && self.transmit.as_ref().is_none_or(Line::is_writable)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_open() {
            return None;
        }
        let now = now();
        // What is due right after a turn could not be done in it, because a line is full or the dongle
        // is not ready; it must not keep the loop busy.
        let radio = self.radio.poll_timeout();
        let radio = radio.map(|at| if at <= now { now + BLOCKED_PAUSE } else { at });
        radio.into_iter().chain(self.silence.poll_timeout()).min()
    }

    fn handle_line(&mut self, lane: Lane, event: LineEvent) {
        let now = now();
        match event {
            LineEvent::Drained => {}
            LineEvent::Received => {
                let octets = match (lane, &self.transmit) {
                    (Lane::Transmit, Some(transmit)) => transmit.received(),
                    (Lane::Transmit | Lane::Main, _) => self.main.received(),
                };
                self.silence.interrupt();
                self.current.octets_received += octets.len() as u64;
                self.radio.handle_octets(now, lane, octets);
            }
            LineEvent::Opened => self.opened(now),
            LineEvent::NotOpened(error) => {
                let name = &self.config.name;
                if std::mem::replace(&mut self.told_down, true) {
                    debug!("{name}: {error}");
                } else {
                    warn!("{name}: {error}");
                }
            }
            LineEvent::Lost(error) => self.lost(lane, &error),
            LineEvent::Stuck => self.stuck(),
        }
    }

    fn opened(&mut self, now: Instant) {
        if !self.is_open() {
            return;
        }
        let name = &self.config.name;
        let device = self.main.device();
        let baud = self.config.port.baud;
        if device.is_remote() {
            info!("{name}: up: {device}, {}", self.config.framing);
        } else {
            info!(
                "{name}: up: {device} at {baud} baud, {}",
                self.config.framing
            );
        }
        if let Device::Path(path) = device
            && let Some(stable) = devices::stable_path_for(path)
        {
            warn!(
                "{name}: {device} may be another dongle after a reboot; write device: {}",
                stable.display()
            );
        }
        for line in [Some(&self.main), self.transmit.as_ref()]
            .into_iter()
            .flatten()
        {
            if let Some(holder) = line.also_open() {
                warn!(
                    "{name}: {} is open in {holder} as well, which takes part of what the dongle says. Stop it, \
                     or keep it from this port",
                    line.device()
                );
            }
        }
        self.told_down = false;
        self.told_stuck = false;
        self.silence.interrupt();
        self.current.opened += 1;
        self.current.is_off_network = false;
        self.radio.handle_open(now);
    }

    fn lost(&mut self, lane: Lane, error: &std::io::Error) {
        self.current.lost += 1;
        if std::mem::replace(&mut self.told_down, true) {
            return;
        }
        let name = &self.config.name;
        let line = match (lane, &self.transmit) {
            (Lane::Transmit, Some(transmit)) => transmit,
            (Lane::Transmit | Lane::Main, _) => &self.main,
        };
        warn!(
            "{name}: {} is gone ({error}); waiting for it, sessions are kept",
            line.device()
        );
    }

    fn stuck(&mut self) {
        if std::mem::replace(&mut self.told_stuck, true) {
            return;
        }
        let name = &self.config.name;
        let device = self.main.device();
        match self.config.port.flow {
            Flow::RtsCts => warn!(
                "{name}: {device} takes no data: the other side does not raise CTS. If RTS and CTS are \
                 not wired, write flow: none"
            ),
            Flow::None => warn!("{name}: {device} takes no data; is the dongle hung up?"),
        }
    }

    fn handle_order(&mut self, order: Order) {
        if !self.is_open() {
            self.current.dropped_down += 1;
            return;
        }
        self.radio.send(now(), order.to, order.message);
    }

    fn write_out(&mut self, now: Instant) {
        let mut frame = Vec::new();
        while self.is_writable() {
            frame.clear();
            let Some(lane) = self.radio.poll_octets(now, &mut frame) else {
                return;
            };
            self.current.octets_sent += frame.len() as u64;
            self.silence.count_frame(now);
            let line = match (lane, &mut self.transmit) {
                (Lane::Transmit, Some(transmit)) => transmit,
                (Lane::Transmit | Lane::Main, _) => &mut self.main,
            };
            line.write(&frame);
        }
    }

    /// A dongle that was sent to and says nothing for long may hang: ask it, else open it anew.
    fn doubt(&mut self, now: Instant) {
        if !self.silence.handle_timeout(now) {
            return;
        }
        self.current.doubted += 1;
        if !self.radio.ask(now) {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        let name = &self.config.name;
        warn!("{name}: nothing heard for long although frames were sent; opening the port anew");
        self.told_down = true;
        self.main.reopen();
        if let Some(transmit) = &mut self.transmit {
            transmit.reopen();
        }
    }

    /// Passes on what the radio reports; `false` when nobody listens any more.
    async fn report(&mut self) -> bool {
        while let Some(event) = self.radio.poll_event() {
            let heard = match event {
                Event::Message {
                    from,
                    signal,
                    bytes,
                } => {
                    if let Some(signal) = signal {
                        self.current.signal = Some(signal);
                    }
                    Heard::Message {
                        from,
                        signal,
                        bytes,
                    }
                }
                Event::Up => {
                    self.current.is_off_network = false;
                    Heard::Up
                }
                Event::Down => {
                    self.current.is_off_network = true;
                    continue;
                }
                Event::MaxMessage(octets) => Heard::MaxMessage(octets),
                Event::Silent => {
                    self.reopen();
                    continue;
                }
                Event::Notice(notice) => {
                    self.tell(&notice);
                    continue;
                }
            };
            let event = SerialEvent {
                link: self.id,
                heard,
            };
            if self.events.send(event).await.is_err() {
                return false;
            }
        }
        true
    }

    fn tell(&mut self, notice: &Notice) {
        let text = describe(&self.config, notice);
        if let Notice::Module(module) = notice
            && self.told_module.replace((**module).clone()).as_ref() == Some(module)
        {
            debug!("{text}");
        } else if notice.is_warning() {
            warn!("{text}");
        } else {
            info!("{text}");
        }
    }

    fn publish_stats(&mut self) {
        self.current.radio = *self.radio.counters();
        self.current.is_open = self.is_open();
        self.current.waiting = match self.current.is_open {
            true => self.radio.waiting() + usize::from(!self.is_writable()),
            false => 0,
        };
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.current;
    }
}

/// Says a notice with the link's name and what the radio does not know.
pub(super) fn describe(config: &SerialConfig, notice: &Notice) -> String {
    let name = &config.name;
    match notice {
        Notice::NoApi => format!(
            "{name}: no answer to API query at {} (AP1/AP2). Module may be in transparent mode (set AP=1 in \
             XCTU) or at another speed. Try: mqtt-sn-gateway probe {}",
            config.port.baud, config.device
        ),
        Notice::Module(_)
        | Notice::Restarted
        | Notice::Joined
        | Notice::Disassociated
        | Notice::Trouble(_)
        | Notice::Text(_)
        | Notice::ConfigWanted
        | Notice::PairingWanted => format!("{name}: {notice}"),
    }
}

async fn next(line: Option<&mut Line>) -> LineEvent {
    match line {
        Some(line) => line.next().await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the link reads the clock for its radio"
)]
fn now() -> Instant {
    Instant::now()
}
