//! What is said in the log of a broker that does not do its part.
//!
//! Thousands of connections meet the same trouble, again and again: it is said once, and once that it
//! is over. That the broker cannot be reached at all is the sockets' to say.

use std::fmt;
use std::time::Duration;

use rumqttc::mqttbytes::v4::ConnectReturnCode;

use crate::moment::Moment;
use crate::upstream::CloseReason;

/// A connection that ended sooner after CONNACK than this was not worth having.
const SHORT: Duration = Duration::from_secs(10);
/// Least time between two troubles that are said.
const REST: Duration = Duration::from_secs(60);

/// The trouble all connections have with the broker.
#[derive(Debug, Default)]
pub struct Trouble {
    until: Option<Until>,
    said: Option<Moment>,
    /// A connection was accepted since that was last asked.
    accepts: bool,
}

/// How a connection ended that was still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Its socket was closed, or never opened.
    Closed(CloseReason),
    /// The broker did not answer CONNECT, or PINGREQ, in time.
    Silence,
    /// The broker does not speak MQTT 3.1.1.
    Nonsense,
    /// CONNACK said this.
    Refused(ConnectReturnCode),
}

/// What ends a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    /// A connection is accepted.
    Accepted,
    /// A connection stands for [`SHORT`].
    Lasting,
}

impl Trouble {
    /// A connection ended while the broker had yet to accept it.
    pub(super) fn not_accepted(&mut self, now: Moment, client_id: &str, loss: Loss) {
        self.met(now, Until::Accepted, client_id, loss);
    }

    /// A connection ended this long after the broker had accepted it.
    pub(super) fn ended(&mut self, now: Moment, after: Duration, client_id: &str, loss: Loss) {
        let until = if after < SHORT {
            Until::Lasting
        } else {
            Until::Accepted
        };
        self.met(now, until, client_id, loss);
    }

    /// A connection was accepted.
    pub(super) fn accepted(&mut self) {
        self.accepts = true;
        if self.until == Some(Until::Accepted) {
            self.until = None;
            tracing::info!("the broker accepts connections again");
        }
    }

    /// Says, once, that the broker has accepted a connection.
    pub fn take_acceptance(&mut self) -> bool {
        std::mem::take(&mut self.accepts)
    }

    /// Something came on a connection that was accepted this long ago.
    pub(super) fn heard(&mut self, now: Moment, since: Moment) {
        if self.until.is_some() && now.duration_since(since) >= SHORT {
            self.until = None;
            tracing::info!("the broker keeps connections again");
        }
    }

    fn met(&mut self, now: Moment, until: Until, client_id: &str, loss: Loss) {
        if self.until.is_some() {
            self.until = self.until.max(Some(until));
            return;
        }
        let rested = |said| now.duration_since(said) >= REST;
        if self.said.is_none_or(rested) {
            let advice = loss.advice();
            tracing::warn!(
                client_id,
                "the broker {loss}; it is tried again and again{advice}"
            );
            self.until = Some(until);
            self.said = Some(now);
        }
    }
}

impl Loss {
    /// Returns what helps, as the rest of a sentence.
    const fn advice(self) -> &'static str {
        match self {
            Self::Refused(
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
            ) => {
                ", links stay up. Mosquitto 2 needs 'listener 1883' and 'allow_anonymous true', or here \
                 broker.user and broker.password"
            }
            Self::Refused(ConnectReturnCode::BadClientId) => ". It is gateway.name",
            Self::Closed(_)
            | Self::Silence
            | Self::Nonsense
            | Self::Refused(
                ConnectReturnCode::ServiceUnavailable
                | ConnectReturnCode::RefusedProtocolVersion
                | ConnectReturnCode::Success,
            ) => "",
        }
    }
}

/// As the rest of a sentence about the broker.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed(CloseReason::Unreachable) => "cannot be reached",
            Self::Closed(CloseReason::ClosedByBroker) => "closed a connection",
            Self::Closed(CloseReason::Broken) => "broke a connection off",
            Self::Silence => "accepts a connection and answers nothing",
            Self::Nonsense => "sends what is not MQTT 3.1.1",
            Self::Refused(ConnectReturnCode::ServiceUnavailable) => {
                "says that it takes no connections now"
            }
            Self::Refused(ConnectReturnCode::BadUserNamePassword) => {
                "does not accept broker.user and broker.password"
            }
            Self::Refused(ConnectReturnCode::NotAuthorized) => {
                "does not permit this client id, or broker.user, to connect"
            }
            Self::Refused(ConnectReturnCode::BadClientId) => "does not accept this client id",
            Self::Refused(
                ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::Success,
            ) => "does not accept MQTT 3.1.1",
        })
    }
}
