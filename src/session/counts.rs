//! How many packets of each type went each way, small for the types that most nodes use.

use crate::memory::Seldom;
use crate::wire::MessageType;

/// What most nodes send and get, the most frequent first.
const COMMON: [(MessageType, Direction); 12] = [
    (MessageType::PUBLISH, Direction::In),
    (MessageType::PUBLISH, Direction::Out),
    (MessageType::PUBACK, Direction::Out),
    (MessageType::PUBACK, Direction::In),
    (MessageType::PINGREQ, Direction::In),
    (MessageType::PINGRESP, Direction::Out),
    (MessageType::CONNECT, Direction::In),
    (MessageType::CONNACK, Direction::Out),
    (MessageType::REGISTER, Direction::In),
    (MessageType::REGACK, Direction::Out),
    (MessageType::SUBSCRIBE, Direction::In),
    (MessageType::SUBACK, Direction::Out),
];

/// Where a type is in [`COMMON`], in the order of the types and one way after the other.
const PLACES: [u8; 2 * MessageType::COUNT] = {
    let mut places = [u8::MAX; 2 * MessageType::COUNT];
    let mut place = 0;
    while place < COMMON.len() {
        let (kind, direction) = COMMON[place];
        places[index(kind, direction)] = place as u8;
        place += 1;
    }
    places
};

/// Which way a packet goes, seen from the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the node.
    In,
    /// To the node.
    Out,
}

/// How often a packet type went one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The packet type.
    pub kind: MessageType,
    /// Which way.
    pub direction: Direction,
    /// How often.
    pub packets: u32,
}

/// The counters of one node.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// In the order of [`COMMON`].
    common: [u32; COMMON.len()],
    others: Seldom<Vec<Count>>,
}

impl Counts {
    pub(super) fn add(&mut self, kind: MessageType, direction: Direction) {
        let packets = self.packets_mut(kind, direction);
        *packets = packets.saturating_add(1);
    }

    /// Returns the counters of what occurred.
    pub(super) fn iter(&self) -> impl Iterator<Item = Count> {
        let common = COMMON.iter().zip(&self.common);
        let common = common.map(|(&(kind, direction), &packets)| Count {
            kind,
            direction,
            packets,
        });
        let occurred = common.filter(|count| count.packets > 0);
        occurred.chain(self.others.iter().copied())
    }

    fn packets_mut(&mut self, kind: MessageType, direction: Direction) -> &mut u32 {
        if let Some(common) = self.common.get_mut(place(kind, direction)) {
            return common;
        }
        let what = (kind, direction);
        let others = self.others.get_or_make();
        let known = others
            .iter()
            .position(|count| (count.kind, count.direction) == what);
        let index = known.unwrap_or_else(|| {
            others.push(Count {
                kind,
                direction,
                packets: 0,
            });
            others.len() - 1
        });
        &mut others[index].packets
    }
}

/// Returns where a type is in [`COMMON`]; beyond its end when it is not there.
fn place(kind: MessageType, direction: Direction) -> usize {
    usize::from(PLACES[index(kind, direction)])
}

const fn index(kind: MessageType, direction: Direction) -> usize {
    2 * kind.index() + direction as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_counted_each_way() {
        let mut counts = Counts::default();
        let mut expected = Vec::new();
        for (index, kind) in MessageType::all().enumerate() {
            for direction in [Direction::In, Direction::Out] {
                let packets = index as u32 % 3;
                (0..packets).for_each(|_| counts.add(kind, direction));
                expected.push((kind, direction as u8, packets));
            }
        }
        expected.retain(|(.., packets)| *packets > 0);
        let counted = counts.iter();
        let mut counted: Vec<_> = counted
            .map(|count| (count.kind, count.direction as u8, count.packets))
            .collect();
        counted.sort_unstable();
        assert_eq!(counted, expected);
    }
}
