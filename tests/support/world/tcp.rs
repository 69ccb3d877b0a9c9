//! The TCP connections between gateway and broker: in order, split anywhere, some time on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use mqtt_sn_gateway::upstream::ConnId;

use crate::broker::Mark;

/// One piece of a stream that arrives.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The connection request reaches the broker.
    Syn,
    /// Octets reach the broker.
    Up(Vec<u8>),
    /// The gateway's end of stream reaches the broker.
    Fin,
    /// The connection stands, at the gateway.
    Opened,
    /// Octets reach the gateway; with the last of them it knows what the marks say.
    Down(Vec<u8>, Vec<Mark>),
    /// The broker's end of stream, or a refusal, reaches the gateway.
    Closed { refused: bool },
}

/// What the gateway may do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    /// The gateway has let go of it, or knows that it is closed.
    Gone,
}

#[derive(Debug)]
struct Stream {
    stage: Stage,
    up_until: Duration,
    down_until: Duration,
}

/// All connections of a run.
#[derive(Debug, Default)]
pub(crate) struct Tcp {
    streams: BTreeMap<ConnId, Stream>,
}

impl Tcp {
    /// The gateway opens a connection; returns when the request arrives, `None` if the number is not new.
    pub(crate) fn open(&mut self, rng: &mut Rng, now: Duration, conn: ConnId) -> Option<Duration> {
        if self.streams.contains_key(&conn) {
            return None;
        }
        let at = now + delay(rng);
        let stream = Stream {
            stage: Stage::Opening,
            up_until: at,
            down_until: at,
        };
        self.streams.insert(conn, stream);
        Some(at)
    }

    /// The gateway sends; returns the pieces and their arrival, `None` if it may not.
    pub(crate) fn send_up(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        conn: ConnId,
        octets: &[u8],
    ) -> Option<Vec<(Duration, Piece)>> {
        let stream = self.streams.get_mut(&conn)?;
        if stream.stage != Stage::Open {
            return None;
        }
        let mut pieces = Vec::new();
        for part in split(rng, octets) {
            stream.up_until = stream.up_until.max(now + delay(rng));
            pieces.push((stream.up_until, Piece::Up(part.to_vec())));
        }
        Some(pieces)
    }

    /// The gateway lets go of a connection; returns when the broker learns it, `None` if it may not.
    pub(crate) fn let_go(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        conn: ConnId,
    ) -> Option<Duration> {
        let stream = self.streams.get_mut(&conn)?;
        if stream.stage == Stage::Gone {
            return None;
        }
        stream.stage = Stage::Gone;
        Some(stream.up_until.max(now + delay(rng)))
    }

    /// The broker sends; returns the pieces and their arrival.
    pub(crate) fn send_down(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        conn: ConnId,
        octets: &[u8],
        mark: Option<Mark>,
    ) -> Vec<(Duration, Piece)> {
        let Some(stream) = self.streams.get_mut(&conn) else {
            return Vec::new();
        };
        let parts = split(rng, octets);
        let last = parts.len() - 1;
        let mut mark = mark;
        let mut pieces = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            stream.down_until = stream.down_until.max(now + delay(rng));
            let marks = if index == last { mark.take() } else { None };
            let piece = Piece::Down(part.to_vec(), marks.into_iter().collect());
            pieces.push((stream.down_until, piece));
        }
        pieces
    }

    /// Something else of the broker's side travels down; returns when it arrives.
    pub(crate) fn follow_down(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        conn: ConnId,
    ) -> Option<Duration> {
        let stream = self.streams.get_mut(&conn)?;
        stream.down_until = stream.down_until.max(now + delay(rng));
        Some(stream.down_until)
    }

    /// A piece is about to reach the gateway; returns whether the gateway still listens.
    pub(crate) fn reaches_gateway(&mut self, conn: ConnId, piece: &Piece) -> bool {
        let Some(stream) = self.streams.get_mut(&conn) else {
            return false;
        };
        if stream.stage == Stage::Gone {
            return false;
        }
        match piece {
            Piece::Opened => stream.stage = Stage::Open,
            Piece::Closed { .. } => stream.stage = Stage::Gone,
            Piece::Syn | Piece::Up(_) | Piece::Fin | Piece::Down(..) => {}
        }
        true
    }

    /// Returns the connections the gateway holds.
    pub(crate) fn held(&self) -> Vec<ConnId> {
        self.streams
            .iter()
            .filter(|(_, stream)| stream.stage != Stage::Gone)
            .map(|(conn, _)| *conn)
            .collect()
    }
}

fn delay(rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.u64(50..4_000))
}

fn split<'a>(rng: &mut Rng, octets: &'a [u8]) -> Vec<&'a [u8]> {
    if octets.len() < 2 || rng.u8(..4) != 0 {
        return vec![octets];
    }
    let (head, tail) = octets.split_at(rng.usize(1..octets.len()));
    vec![head, tail]
}
