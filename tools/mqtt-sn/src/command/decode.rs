//! `decode`: octets in, words out.

use std::io::BufRead;

use clap::Args;
use mqtt_sn_gateway::wire;

use crate::failure::Failure;
use crate::options::hex;
use crate::print::line;

/// Options of `decode`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DecodeArgs {
    /// Datagrams in hexadecimal, one an argument; without any, one a line of stdin
    #[arg(value_name = "HEX")]
    datagrams: Vec<String>,
}

/// Prints what each datagram says.
///
/// # Errors
/// When one is not hexadecimal, or not MQTT-SN; the others are printed all the same.
pub(crate) fn run(args: &DecodeArgs) -> Result<(), Failure> {
    let mut wrong = 0;
    let mut print = |text: &str| -> Result<(), Failure> {
        let octets = hex(text).map_err(Failure::Usage)?;
        match wire::decode(&octets) {
            Ok(message) => line(&message.to_string()),
            Err(error) => {
                wrong += 1;
                line(&format!("not MQTT-SN: {error} ({} octets)", octets.len()))
            }
        }
    };
    if args.datagrams.is_empty() {
        for text in std::io::stdin().lock().lines() {
            let text = text?;
            if !text.trim().is_empty() {
                print(&text)?;
            }
        }
    } else {
        args.datagrams.iter().try_for_each(|text| print(text))?;
    }
    match wrong {
        0 => Ok(()),
        1 => Err(Failure::Rejected("one datagram is not MQTT-SN".into())),
        _ => Err(Failure::Rejected(format!(
            "{wrong} datagrams are not MQTT-SN"
        ))),
    }
}
