//! `dump`: listen on a port and say what arrives.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use mio::Interest;
use mio::net::UdpSocket;
use mqtt_sn_gateway::wire;

use crate::clock;
use crate::failure::Failure;
use crate::net::{Fleet, Happening, Trace, Verbosity, open_socket};
use crate::options::{FormOptions, WatchOptions, seconds};
use crate::print::line;

/// Options of `dump`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DumpArgs {
    /// UDP port to listen on; 0 takes a free one
    #[arg(short = 'p', long, default_value_t = 1883)]
    port: u16,
    /// Local address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    bind: IpAddr,
    /// Listen to this multicast group too; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    group: Vec<IpAddr>,
    /// Leave after this many datagrams
    #[arg(short = 'C', long, value_name = "DATAGRAMS")]
    count: Option<u64>,
    /// Leave after this many seconds
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    form: FormOptions,
    #[command(flatten)]
    watch: WatchOptions,
}

/// Prints datagrams until the count, the time or the user says stop.
///
/// # Errors
/// When the port cannot be had.
pub(crate) fn run(args: &DumpArgs) -> Result<(), Failure> {
    let mut fleet = Fleet::new(Trace::new(Verbosity::Silent, None))?;
    fleet.watch_signals()?;
    let mut socket = open_socket(SocketAddr::new(args.bind, args.port))?;
    for group in &args.group {
        let joined = match group {
            IpAddr::V4(group) => socket.join_multicast_v4(group, &Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(group) => socket.join_multicast_v6(group, 0),
        };
        joined.map_err(|error| Failure::Socket(format!("cannot join group {group}: {error}")))?;
    }
    let ours = socket.local_addr()?;
    fleet
        .registry()
        .register(&mut socket, Fleet::outside_token(0), Interest::READABLE)?;
    if !args.watch.quiet {
        eprintln!("mqtt-sn: listening on {ours}/udp");
    }
    let until = args.timeout.map(|timeout| clock::now() + timeout);
    let mut dump = Dump {
        args,
        ours,
        trace: args.watch.trace(ours.port())?,
        left: args.count.unwrap_or(u64::MAX),
    };
    while dump.left > 0 && until.is_none_or(|until| clock::now() < until) {
        match fleet.next_happening() {
            Some(Happening::Interrupted) => break,
            Some(Happening::Ready(_)) => dump.receive(&socket)?,
            Some(Happening::Node(..) | Happening::Refused(_)) => {}
            None => fleet.turn(until)?,
        }
    }
    Ok(())
}

struct Dump<'a> {
    args: &'a DumpArgs,
    ours: SocketAddr,
    trace: Trace,
    left: u64,
}

impl Dump<'_> {
    fn receive(&mut self, socket: &UdpSocket) -> Result<(), Failure> {
        let mut buffer = [0; 65_536];
        while self.left > 0
            && let Ok((length, from)) = socket.recv_from(&mut buffer)
        {
            self.left -= 1;
            self.show(from, &buffer[..length])?;
        }
        Ok(())
    }

    fn show(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<(), Failure> {
        self.trace.record(from, self.ours, datagram);
        let seconds = clock::since_1970().as_secs_f64();
        let text = match wire::decode(datagram) {
            Ok(message) => message.to_string(),
            Err(error) => format!("{} octets that are no MQTT-SN: {error}", datagram.len()),
        };
        if self.args.form.json {
            let object =
                serde_json::json!({ "time": seconds, "from": from.to_string(), "packet": text });
            return line(&object.to_string());
        }
        line(&format!("{seconds:.3} {from} {text}"))?;
        if self.args.watch.debug > 0 {
            let octets: String = datagram
                .iter()
                .map(|octet| format!(" {octet:02x}"))
                .collect();
            line(&format!("   {octets}"))?;
        }
        Ok(())
    }
}
