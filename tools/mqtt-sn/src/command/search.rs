//! `search`: who is a gateway here?

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
use mqtt_sn_gateway::wire::{MAX_MESSAGE, Packet, decode};
use socket2::SockRef;

use super::station::unreachable;
use crate::clock;
use crate::failure::Failure;
use crate::net::resolve;
use crate::options::seconds;
use crate::print::line;

/// The multicast group most gateways listen to.
const GROUP: &str = "225.1.1.1:1883";

/// Options of `search`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SearchArgs {
    /// Ask this host only, instead of the multicast group and this machine
    #[arg(short = 'h', long)]
    host: Option<String>,
    /// UDP port to ask at, for --host and --broadcast
    #[arg(short = 'p', long, default_value_t = 1883)]
    port: u16,
    /// Multicast group to ask, ADDRESS:PORT; may be repeated
    #[arg(long, value_name = "GROUP", default_value = GROUP)]
    group: Vec<SocketAddr>,
    /// Ask by IPv4 broadcast too
    #[arg(long)]
    broadcast: bool,
    /// Hops the question may travel; 0 is as far as the network goes
    #[arg(long, default_value_t = 1)]
    radius: u8,
    /// Local address of the interface to ask on
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// Stop at the first answer
    #[arg(long)]
    first: bool,
    /// Seconds to wait for answers
    #[arg(short = 'W', long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    wait: Duration,
    /// Write one JSON object a gateway
    #[arg(long)]
    json: bool,
}

/// A gateway that answered.
struct Found {
    gateway_id: u8,
    address: SocketAddr,
    after: Duration,
}

/// Prints the gateways that answer.
///
/// # Errors
/// When none does, or nothing can be sent.
pub(crate) fn run(args: &SearchArgs) -> Result<(), Failure> {
    let mut count = 0;
    search(args, |found| {
        count += 1;
        let milliseconds = found.after.as_secs_f64() * 1e3;
        if args.json {
            let Found {
                gateway_id,
                address,
                ..
            } = found;
            let object = serde_json::json!({ "gateway": gateway_id, "address": address.to_string(), "ms": milliseconds });
            return line(&object.to_string());
        }
        line(&format!(
            "gateway {} at {} ({milliseconds:.0} ms)",
            found.gateway_id, found.address
        ))
    })?;
    match &args.host {
        _ if count > 0 => Ok(()),
        Some(host) => Err(Failure::NoAnswer(format!(
            "no answer from {}/udp to SEARCHGW in {} s. Is a gateway there, and is this its port?",
            resolve(host, args.port)?,
            args.wait.as_secs_f64()
        ))),
        None => Err(nobody()),
    }
}

/// Finds any gateway by the default means, for `--host auto`.
///
/// # Errors
/// When none answers.
pub(crate) fn first_gateway() -> Result<SocketAddr, Failure> {
    let args = SearchArgs {
        host: None,
        port: 1883,
        group: GROUP.parse().into_iter().collect(),
        broadcast: false,
        radius: 1,
        bind: None,
        first: true,
        wait: Duration::from_secs(5),
        json: false,
    };
    let mut address = None;
    search(&args, |found| {
        address = Some(found.address);
        Ok(())
    })?;
    address.ok_or_else(nobody)
}

fn nobody() -> Failure {
    Failure::NoAnswer(
        "no gateway answered SEARCHGW. Is `discovery` set in its gateway.yaml? Ask one directly with -h and -p."
            .into(),
    )
}

/// Asks at once and again after 1, 3, 7, ... seconds: each wait is twice the last [S 6.1].
fn search(
    args: &SearchArgs,
    mut tell: impl FnMut(&Found) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let targets = args.targets()?;
    let sockets = args.sockets(&targets)?;
    let start = clock::now();
    let (mut ask_at, mut pause) = (start, Duration::from_secs(1));
    let mut seen = BTreeSet::new();
    while clock::now() < start + args.wait {
        if ask_at <= clock::now() {
            ask(args, &sockets, &targets)?;
            ask_at += pause;
            pause *= 2;
        }
        for socket in &sockets {
            let Some(found) = receive(socket, start)? else {
                continue;
            };
            if seen.insert((found.gateway_id, found.address)) {
                tell(&found)?;
                if args.first {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

impl SearchArgs {
    fn targets(&self) -> Result<Vec<SocketAddr>, Failure> {
        if let Some(host) = &self.host {
            return Ok(vec![resolve(host, self.port)?]);
        }
        let mut targets = self.group.clone();
        targets.push((Ipv4Addr::LOCALHOST, self.port).into());
        if self.broadcast {
            targets.push((Ipv4Addr::BROADCAST, self.port).into());
        }
        Ok(targets)
    }

    /// Opens one socket a family; each waits a tenth of a second when it is asked for answers.
    fn sockets(&self, targets: &[SocketAddr]) -> Result<Vec<UdpSocket>, Failure> {
        let families = BTreeSet::from_iter(targets.iter().map(SocketAddr::is_ipv4));
        let mut sockets = Vec::new();
        for is_ipv4 in families {
            let wildcard = if is_ipv4 {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv6Addr::UNSPECIFIED.into()
            };
            let local = self.bind.filter(|bind| bind.is_ipv4() == is_ipv4);
            let local = SocketAddr::new(local.unwrap_or(wildcard), 0);
            let socket = UdpSocket::bind(local)
                .map_err(|e| Failure::Socket(format!("cannot use UDP address {local}: {e}")))?;
            // Only a connected socket hears that nothing listens there.
            if self.host.is_some()
                && let [target] = targets
                && !target.ip().is_multicast()
                && target.ip() != Ipv4Addr::BROADCAST
            {
                socket
                    .connect(target)
                    .map_err(|e| Failure::Socket(format!("cannot send to {target}: {e}")))?;
            }
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            let hops = match self.radius {
                0 => 255,
                radius => u32::from(radius),
            };
            let options = SockRef::from(&socket);
            match local.ip() {
                IpAddr::V4(address) => {
                    options.set_broadcast(true)?;
                    options.set_multicast_ttl_v4(hops)?;
                    options.set_multicast_if_v4(&address)?;
                }
                IpAddr::V6(_) => options.set_multicast_hops_v6(hops)?,
            }
            sockets.push(socket);
        }
        Ok(sockets)
    }
}

/// Sends the question everywhere. One unreachable network does not stop the others; none at all
/// is an error.
fn ask(args: &SearchArgs, sockets: &[UdpSocket], targets: &[SocketAddr]) -> Result<(), Failure> {
    let mut question = BytesMut::new();
    let packet = Packet::SearchGw {
        radius: args.radius,
    };
    packet
        .encode(MAX_MESSAGE, &mut question)
        .map_err(|error| Failure::Socket(error.to_string()))?;
    let mut last_error = None;
    let mut asked = 0;
    for target in targets {
        for socket in sockets {
            if socket.local_addr()?.is_ipv4() != target.is_ipv4() {
                continue;
            }
            match socket.send_to(&question, target) {
                Ok(_) => asked += 1,
                Err(error) => last_error = Some((target, error)),
            }
        }
    }
    match last_error {
        Some((target, error)) if asked == 0 => {
            Err(Failure::Socket(format!("cannot send to {target}: {error}")))
        }
        _ => Ok(()),
    }
}

fn receive(socket: &UdpSocket, start: Instant) -> Result<Option<Found>, Failure> {
    let mut datagram = [0; 512];
    let (length, from) = match socket.recv_from(&mut datagram) {
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return Err(unreachable(socket.peer_addr()?));
        }
        Err(_) => return Ok(None),
    };
    let after = clock::now().duration_since(start);
    let Ok(message) = decode(&datagram[..length]) else {
        return Ok(None);
    };
    let Packet::GwInfo { gw_id, .. } = message.packet else {
        return Ok(None);
    };
    Ok(Some(Found {
        gateway_id: gw_id,
        address: from,
        after,
    }))
}
