//! Who published what, how far it came, and who has it: the books of a run.
//!
//! Every payload of the World carries the number of its message, so that each copy seen anywhere can be
//! told apart from every other message.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use mqtt_sn_gateway::wire::QoS;

/// Number of a message, carried in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId(u32);

/// How far the broker has confirmed a message, as the gateway has learned it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confirmed {
    /// Not at all.
    #[default]
    Nothing,
    /// PUBACK, or PUBREC at QoS 2.
    Received,
    /// PUBCOMP.
    Completed,
}

/// One message and its fate.
#[derive(Clone, Debug)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Quality of service it was published with.
    pub qos: QoS,
    /// Client id of the device that published it; `None` for the broker's other clients.
    pub origin: Option<String>,
    /// When it was published.
    pub sent_at: Duration,
    /// Octets its payload was asked to have.
    pub octets: usize,
    /// How often it reached the broker from the device that published it.
    pub arrivals: u32,
    /// How often the broker passed it on, also for those who replay it.
    pub copies: u32,
    /// What the gateway knows of that.
    pub confirmed: Confirmed,
    /// Whether the publishing device was told that it is safe.
    pub acknowledged: bool,
    /// Whether somebody forges datagrams of the device that published it.
    pub forged: bool,
    /// Whether the broker keeps it, so that every new subscription brings it again.
    pub retained: bool,
    receipts: BTreeMap<String, Receipt>,
}

/// One message on its way to one device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receipt {
    /// How often the application of the device got it.
    pub delivered: u32,
    /// The gateway has seen the device's acknowledgement.
    pub confirmed: bool,
    /// The gateway may rightly give it up: the device refused it or stayed silent too long.
    pub given_up: bool,
}

/// All messages of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    foretold: BTreeSet<u32>,
    messages: Vec<Message>,
    open: BTreeMap<String, BTreeSet<MessageId>>,
    newest_delivered: BTreeMap<Stream, MessageId>,
    newest_arrived: BTreeMap<Stream, MessageId>,
    /// Messages of one topic keep their order within a quality of service only.
    pub(crate) order_by_qos: bool,
}

/// Client, topic, and quality of service if that counts: what keeps its order.
type Stream = (String, String, Option<i8>);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl MessageId {
    /// Returns a payload that carries the number and has this many octets, or as many as it needs.
    pub fn payload(self, size: usize) -> Vec<u8> {
        let mut payload = format!("m{}.", self.0).into_bytes();
        payload.resize(payload.len().max(size), b'x');
        payload
    }

    /// Reads the number from a payload; `None` if the World did not make it.
    pub fn of(payload: &[u8]) -> Option<Self> {
        let text = payload.strip_prefix(b"m")?;
        let end = text.iter().position(|octet| *octet == b'.')?;
        let digits = std::str::from_utf8(&text[..end]).ok()?;
        digits.parse().ok().map(Self)
    }
}

impl Ledger {
    /// Books a new message.
    pub fn publish(
        &mut self,
        origin: Option<&str>,
        topic: &str,
        qos: QoS,
        now: Duration,
    ) -> MessageId {
        let number = self.messages.len() as u32;
        self.messages.push(Message {
            topic: topic.to_owned(),
            qos,
            origin: origin.map(str::to_owned),
            sent_at: now,
            octets: 0,
            arrivals: 0,
            copies: 0,
            confirmed: Confirmed::Nothing,
            acknowledged: false,
            forged: self.foretold.contains(&number),
            retained: false,
            receipts: BTreeMap::new(),
        });
        MessageId(number)
    }

    /// Somebody sent a message of this name before anybody had published it.
    pub fn foretell(&mut self, id: MessageId) {
        self.foretold.insert(id.0);
    }

    /// Somebody else than its author sends a message of this name, which may not have been published yet.
    pub fn forge(&mut self, id: MessageId) {
        match self.message_mut(id) {
            Some(message) => message.forged = true,
            None => self.foretell(id),
        }
    }

    /// A datagram is damaged on its way, and may carry another message than before.
    pub fn damage(&mut self, before: Option<MessageId>, after: Option<MessageId>) {
        if let Some(id) = after.filter(|_| after != before) {
            self.forge(id);
        }
    }

    /// Returns a message; `None` for numbers no one has given.
    pub fn message(&self, id: MessageId) -> Option<&Message> {
        self.messages.get(id.0 as usize)
    }

    /// Returns a message to write on.
    pub fn message_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        self.messages.get_mut(id.0 as usize)
    }

    /// Returns every message with its number.
    pub fn messages(&self) -> impl Iterator<Item = (MessageId, &Message)> {
        (0..).map(MessageId).zip(&self.messages)
    }

    /// Books that a message reached the broker; returns how often it has, and whether a later one of
    /// the same device and topic had been there before its first arrival.
    pub fn arrive(&mut self, id: MessageId) -> (u32, bool) {
        let Some(message) = self.messages.get_mut(id.0 as usize) else {
            return (1, false);
        };
        message.arrivals += 1;
        let arrivals = message.arrivals;
        if arrivals > 1 || message.qos < QoS::AtLeastOnce {
            return (arrivals, false);
        }
        let Some(origin) = message.origin.clone() else {
            return (arrivals, false);
        };
        let qos = self.order_by_qos.then(|| message.qos.level());
        let newest = self
            .newest_arrived
            .entry((origin, message.topic.clone(), qos))
            .or_insert(id);
        let overtaken = *newest > id;
        *newest = id.max(*newest);
        (arrivals, overtaken)
    }

    /// Books that the broker holds a message of QoS 1 or 2 for a device.
    pub fn owe(&mut self, client: &str, id: MessageId) {
        self.open.entry(client.to_owned()).or_default().insert(id);
        self.receipt(client, id);
    }

    /// Books that the broker needs to keep a message no longer.
    pub fn settle(&mut self, client: &str, id: MessageId) {
        if let Some(open) = self.open.get_mut(client) {
            open.remove(&id);
        }
    }

    /// Books that the broker forgot a session, and with it everything it held for the device.
    pub fn forget(&mut self, client: &str) {
        self.open.remove(client);
    }

    /// Returns what the broker still holds for a device.
    pub fn owed(&self, client: &str) -> Vec<MessageId> {
        let owed = self.open.get(client);
        owed.map_or_else(Vec::new, |open| open.iter().copied().collect())
    }

    /// Books that the application of a device got a message; returns how often it has, and whether a
    /// later one of QoS 1 or 2 on the same topic came before it.
    pub fn deliver(&mut self, client: &str, id: MessageId, qos: QoS) -> (u32, bool) {
        let Some(receipt) = self.receipt(client, id) else {
            return (1, false);
        };
        receipt.delivered += 1;
        let delivered = receipt.delivered;
        if delivered > 1 || qos < QoS::AtLeastOnce {
            return (delivered, false);
        }
        let message = &self.messages[id.0 as usize];
        let origin = message.origin.as_deref().unwrap_or("broker");
        let qos = self.order_by_qos.then(|| message.qos.level());
        let key = (
            client.to_owned(),
            format!("{origin} {}", message.topic),
            qos,
        );
        let newest = self.newest_delivered.entry(key).or_insert(id);
        let overtaken = *newest > id;
        *newest = id.max(*newest);
        (delivered, overtaken)
    }

    /// Returns the books on one message and one device, opening them if needed.
    pub fn receipt(&mut self, client: &str, id: MessageId) -> Option<&mut Receipt> {
        let message = self.messages.get_mut(id.0 as usize)?;
        if !message.receipts.contains_key(client) {
            message
                .receipts
                .insert(client.to_owned(), Receipt::default());
        }
        message.receipts.get_mut(client)
    }

    /// Returns how often an application got a message, over all.
    pub fn deliveries(&self) -> u64 {
        let receipts = self.messages.iter().flat_map(|m| m.receipts.values());
        receipts.map(|receipt| u64::from(receipt.delivered)).sum()
    }

    /// Returns how often each device got a message.
    pub fn receipts(&self, id: MessageId) -> impl Iterator<Item = (&str, &Receipt)> {
        self.message(id)
            .into_iter()
            .flat_map(|message| &message.receipts)
            .map(|(client, receipt)| (client.as_str(), receipt))
    }
}
