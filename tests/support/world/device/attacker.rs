//! Devices that mean harm.
//!
//! None of them may hurt a node it does not name: what it costs the gateway is bounded, and the rules
//! of the World hold for everybody else. MQTT-SN has no credentials, so whoever forges the address of a
//! node can end its session; [`Attack::Spoof`] is aimed at victims only.

use fastrand::Rng;

use crate::link::damage;

/// What an attacker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// CONNECT with ever new client ids from ever new addresses.
    Flood,
    /// CONNECT with a Will, and never an answer to the questions; or half of them.
    HalfHandshake,
    /// PUBLISH, SUBSCRIBE and PINGREQ with guessed ids.
    Guess,
    /// Answers nobody asked for.
    Answers,
    /// Encapsulation in encapsulation, without a message, with huge node ids.
    Bombs,
    /// Random octets, and honest datagrams with damage.
    Noise,
    /// Datagrams of honest devices again, from its own address.
    Replay,
    /// Datagrams in the name of a victim, from the victim's address.
    Spoof,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Flood,
        Self::HalfHandshake,
        Self::Guess,
        Self::Answers,
        Self::Bombs,
        Self::Noise,
        Self::Replay,
        Self::Spoof,
    ];
}

/// Where an attacker's datagram seems to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The one address of its own.
    Own,
    /// An address nobody used before.
    Fresh,
    /// The address of its victim.
    Victim,
}

/// An attacker.
#[derive(Clone, Debug)]
pub struct Attacker {
    /// What it does.
    pub attack: Attack,
    /// Client id of the device it harms, for [`Attack::Spoof`].
    pub victim: Option<String>,
    rng: Rng,
    made: u32,
}

impl Attacker {
    /// Makes an attacker.
    pub fn new(attack: Attack, victim: Option<String>, seed: u64) -> Self {
        Self {
            attack,
            victim,
            rng: Rng::with_seed(seed),
            made: 0,
        }
    }

    /// Returns its next datagram. `overheard` is what some honest device sent before.
    pub fn strike(&mut self, overheard: &[u8]) -> (Origin, Vec<u8>) {
        self.made += 1;
        match self.attack {
            Attack::Flood => (Origin::Fresh, self.connect(0x04)),
            Attack::HalfHandshake => match self.made % 3 {
                0 => (
                    Origin::Own,
                    vec![10, 0x07, 0x00, b'w', b'i', b'l', b'l', b'/', b'x', b'x'],
                ),
                1 => (Origin::Own, self.connect(0x0c)),
                _ => (Origin::Fresh, self.connect(0x08)),
            },
            Attack::Guess => (Origin::Own, self.guess()),
            Attack::Answers => (Origin::Own, self.answer()),
            Attack::Bombs => (Origin::Own, self.bomb()),
            Attack::Noise => (Origin::Own, self.noise(overheard)),
            Attack::Replay => (Origin::Own, overheard.to_vec()),
            Attack::Spoof => (Origin::Victim, self.spoof(overheard)),
        }
    }

    fn connect(&mut self, flags: u8) -> Vec<u8> {
        let id = format!("evil{}", self.made);
        let mut octets = vec![6 + id.len() as u8, 0x04, flags, 0x01, 0, self.rng.u8(1..60)];
        octets.extend_from_slice(id.as_bytes());
        octets
    }

    fn guess(&mut self) -> Vec<u8> {
        let [a, b, c, d] = self.rng.u32(..).to_be_bytes();
        match self.rng.u8(..6) {
            0 => self.connect(0x04),
            1 => vec![9, 0x0c, self.rng.u8(..), a % 4, b, c, d, b'?', b'?'],
            2 => vec![7, 0x12, self.rng.u8(..), a, b, c, d],
            3 => vec![7, 0x14, self.rng.u8(..), a, b, c, d],
            4 => {
                let id = format!("evil{}", self.rng.u32(..50));
                let mut octets = vec![2 + id.len() as u8, 0x16];
                octets.extend_from_slice(id.as_bytes());
                octets
            }
            _ => vec![4, 0x18, 0, a / 4],
        }
    }

    fn answer(&mut self) -> Vec<u8> {
        let [a, b, c, d] = self.rng.u32(..).to_be_bytes();
        match self.rng.u8(..10) {
            0 => self.connect(0x00),
            1 => vec![7, 0x0b, a, b, c % 2, d, self.rng.u8(..5)],
            2 => vec![7, 0x0d, a, b, c % 2, d, self.rng.u8(..5)],
            3 => vec![4, 0x0e, a % 2, b],
            4 => vec![4, 0x0f, a % 2, b],
            5 => vec![4, 0x10, a % 2, b],
            6 => vec![2, 0x17],
            7 => vec![3, 0x05, a],
            8 => vec![8, 0x13, a, b, c, d, 0, 1],
            _ => vec![2, 0x08],
        }
    }

    fn bomb(&mut self) -> Vec<u8> {
        match self.rng.u8(..4) {
            0 => (0..self.rng.usize(2..200))
                .flat_map(|_| [3, 0xfe, 0])
                .collect(),
            1 => {
                let mut octets = vec![255, 0xfe, 0xff];
                octets.extend((0..252).map(|_| self.rng.u8(..)));
                octets.extend(self.connect(0x04));
                octets
            }
            2 => vec![4, 0xfe, 0, self.rng.u8(..)],
            _ => vec![0x01, 0x00, 0x05, 0xfe, 0x00, 2, 0x16],
        }
    }

    fn noise(&mut self, overheard: &[u8]) -> Vec<u8> {
        if self.rng.bool() {
            let length = self.rng.usize(..300);
            return (0..length).map(|_| self.rng.u8(..)).collect();
        }
        let mut octets = overheard.to_vec();
        damage(&mut self.rng, &mut octets);
        octets
    }

    fn spoof(&mut self, overheard: &[u8]) -> Vec<u8> {
        match self.rng.u8(..5) {
            0 => vec![2, 0x18],
            1 => vec![4, 0x18, 0, 60],
            2 => overheard.to_vec(),
            3 => self.guess(),
            _ => self.answer(),
        }
    }
}
