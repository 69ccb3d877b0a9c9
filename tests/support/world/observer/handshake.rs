//! CONNECT and the answers that follow it, by peer [S 6.2].

use mqtt_sn_gateway::wire::Packet;

/// The CONNECT a peer sent last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) client: String,
    pub(super) clean: bool,
    will: bool,
    /// The message of the Will, or empty for the empty Will topic: what CONNACK answered.
    last: Option<Vec<u8>>,
    /// CONNACK has come.
    done: bool,
    /// What was heard last repeats what CONNACK answered.
    again: bool,
}

impl Handshake {
    /// Begins with a CONNECT. One that repeats the CONNECT before may be answered by CONNACK alone.
    pub(super) fn begin(client: &str, clean: bool, will: bool, before: Option<Self>) -> Self {
        Self {
            client: client.to_owned(),
            clean,
            will,
            last: before.and_then(|before| before.last),
            done: false,
            again: false,
        }
    }

    /// Takes what the peer says; returns whether it repeats the end of the handshake, so that CONNACK may
    /// come again (I-28).
    pub(super) fn hear(&mut self, packet: &Packet<'_>) -> bool {
        self.again = false;
        let answer = if let Packet::WillMsg { message } = *packet {
            message
        } else if let Packet::WillTopic(None) = packet {
            &[]
        } else {
            return false;
        };
        if self.done {
            self.again = self.will && self.last.as_deref() == Some(answer);
            return self.again;
        }
        self.last = Some(answer.to_vec());
        false
    }

    /// Returns the client until CONNACK has come.
    pub(super) fn under_way(&self) -> Option<&str> {
        (!self.done).then_some(&*self.client)
    }

    /// Whether another client than this one is about to take the peer over.
    pub(super) fn is_anothers(&self, client: &str) -> bool {
        !self.done && self.client != client
    }

    /// CONNACK accepts the node; returns whether it did before, and nothing begins.
    pub(super) fn end(&mut self) -> bool {
        self.done = true;
        std::mem::take(&mut self.again)
    }
}
