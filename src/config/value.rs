//! What the values of the file look like: durations, sizes, addresses, choices.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::problem::{Problem, nearest};
use super::section::Reader;
use super::yaml::{Node, Value};
use crate::gateway::{Network, RadioAddress};
use crate::links::udp::Group;

type Read<T> = Result<T, Problem>;

/// `true` or `false`.
pub(super) fn truth(_: &Reader<'_>, node: &Node) -> Read<bool> {
    if let Value::Bool(value) = node.value {
        return Ok(value);
    }
    if !node.is_scalar() {
        return Err(expects(node, "true or false"));
    }
    let hint = match node.to_string().to_ascii_lowercase().as_str() {
        "on" | "yes" | "y" => "true".to_owned(),
        "off" | "no" | "n" => "false".to_owned(),
        _ => "true or false".to_owned(),
    };
    wrong(node, &format!("write {hint}"))
}

/// A whole number within bounds.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&Reader<'_>, &Node) -> Read<T>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |_, node| {
        let number = node.integer().and_then(|value| T::try_from(value).ok());
        if let Some(value) = number.filter(|value| range.contains(value)) {
            return Ok(value);
        }
        if let Some(text) = node.text() {
            if has_leading_zero(text) {
                let meant = text.trim_start_matches('0');
                let advice = "a leading zero makes it octal for some YAML readers, write";
                return wrong(node, &format!("{advice} {meant}"));
            }
            if text.parse::<u64>().is_ok() {
                return wrong(node, "write the number without quotes");
            }
        }
        let (from, to) = (range.start(), range.end());
        Err(expects(
            node,
            &format!("a whole number from {from} to {to}"),
        ))
    }
}

/// A duration with its unit, within bounds: `200ms`, `10s`, `15m`, `24h`, `7d`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Reader<'_>, &Node) -> Read<Duration> {
    move |reader, node| {
        if let Some(value) = node.integer() {
            return wrong(
                node,
                &format!("a duration needs its unit, write {value}s (or ms, m, h, d)"),
            );
        }
        let text = text(reader, node)?;
        let value = parse_duration(&text)
            .ok_or_else(|| expects(node, "a duration such as 500ms, 10s, 15m, 24h or 7d"))?;
        if !range.contains(&value) {
            let (from, to) = (show_duration(*range.start()), show_duration(*range.end()));
            return Err(expects(node, &format!("a duration from {from} to {to}")));
        }
        Ok(value)
    }
}

/// A duration of whole seconds.
pub(super) fn whole_seconds(
    range: RangeInclusive<u64>,
) -> impl Fn(&Reader<'_>, &Node) -> Read<Duration> {
    let range = Duration::from_secs(*range.start())..=Duration::from_secs(*range.end());
    move |reader, node| {
        let value = duration(range.clone())(reader, node)?;
        if value.subsec_nanos() != 0 {
            return Err(expects(node, "whole seconds"));
        }
        Ok(value)
    }
}

/// A number of octets within bounds: `1200`, `64KiB`, `2MiB`.
pub(super) fn size(range: RangeInclusive<usize>) -> impl Fn(&Reader<'_>, &Node) -> Read<usize> {
    move |reader, node| {
        let octets = match node.integer() {
            Some(value) => usize::try_from(value).ok(),
            None => parse_size(&text(reader, node)?),
        };
        let octets = octets.ok_or_else(|| expects(node, "a size such as 1200, 64KiB or 2MiB"))?;
        if !range.contains(&octets) {
            let (from, to) = (range.start(), range.end());
            return Err(expects(node, &format!("a size from {from} to {to} octets")));
        }
        Ok(octets)
    }
}

/// Text, with `${VAR}` replaced from the environment.
pub(super) fn text(reader: &Reader<'_>, node: &Node) -> Read<String> {
    expand(reader, node, literal(node)?)
}

/// Text as it stands in the file.
pub(super) fn literal(node: &Node) -> Read<&str> {
    match node.text() {
        Some(text) => Ok(text),
        None if node.is_scalar() => wrong(node, &format!("text is wanted here, write \"{node}\"")),
        None => Err(expects(node, "text")),
    }
}

/// A name for logs and client ids.
pub(super) fn name(reader: &Reader<'_>, node: &Node) -> Read<Arc<str>> {
    let name = text(reader, node)?;
    let printable = name.chars().all(|c| c.is_ascii_graphic());
    if printable && (1..=64).contains(&name.len()) {
        Ok(name.into())
    } else {
        Err(expects(node, "a name of 1 to 64 printable characters"))
    }
}

/// One of several words.
pub(super) fn choice<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Reader<'_>, &Node) -> Read<T> {
    move |reader, node| {
        let names = || words.iter().map(|(name, _)| *name);
        let listed = names().collect::<Vec<_>>().join(", ");
        if node.text().is_none() {
            return Err(expects(node, &format!("one of {listed}")));
        }
        let text = text(reader, node)?;
        match words.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => match nearest(&text, names()) {
                Some(meant) => wrong(node, &format!("did you mean {meant}? (one of {listed})")),
                None => Err(expects(node, &format!("one of {listed}"))),
            },
        }
    }
}

/// A list; a wrong item is reported and left out.
pub(super) fn list<T>(
    item: impl Fn(&Reader<'_>, &Node) -> Read<T>,
) -> impl Fn(&Reader<'_>, &Node) -> Read<Vec<T>> {
    move |reader, node| {
        let Some(items) = node.list() else {
            return match node.text() {
                Some(text) => wrong(node, &format!("a list is wanted, write [\"{text}\"]")),
                None if node.is_scalar() => {
                    wrong(node, &format!("a list is wanted, write [{node}]"))
                }
                None => Err(expects(node, "a list")),
            };
        };
        let mut values = Vec::new();
        for node in items {
            match item(reader, node) {
                Ok(value) => values.push(value),
                Err(problem) => reader.report(problem),
            }
        }
        Ok(values)
    }
}

/// Address and port to listen on; a port alone stands for all addresses, IPv4 and IPv6.
pub(super) fn listen(reader: &Reader<'_>, node: &Node) -> Read<Vec<SocketAddr>> {
    if node.integer().is_some() {
        let port = number(1..=u16::MAX)(reader, node)?;
        return Ok(vec![
            (Ipv4Addr::UNSPECIFIED, port).into(),
            (Ipv6Addr::UNSPECIFIED, port).into(),
        ]);
    }
    Ok(vec![socket_address(reader, node)?])
}

/// Address and port: `127.0.0.1:1883`, `[::1]:1883`.
pub(super) fn socket_address(reader: &Reader<'_>, node: &Node) -> Read<SocketAddr> {
    let text = text(reader, node)?;
    text.parse().or_else(|_| {
        let hint = if text.parse::<IpAddr>().is_ok() {
            "the port is missing"
        } else if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            "an address is wanted, not a name"
        } else {
            "an address with a port is wanted"
        };
        wrong(
            node,
            &format!("{hint}, such as \"127.0.0.1:10000\" or \"[::1]:10000\""),
        )
    })
}

/// A multicast group, on a named interface if that matters: `225.1.1.1:1883`, `[ff03::1%wpan0]:1883`.
pub(super) fn multicast_group(reader: &Reader<'_>, node: &Node) -> Read<Group> {
    let text = text(reader, node)?;
    let (address, interface) = match text.split_once('%') {
        None => (text.clone(), None),
        Some((address, rest)) => {
            let end = rest.find([']', ':']).unwrap_or(rest.len());
            let (interface, tail) = rest.split_at(end);
            (format!("{address}{tail}"), Some(interface))
        }
    };
    let interface_fits = interface.is_none_or(|name| (1..16).contains(&name.len()));
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_multicast() && interface_fits => Ok(Group {
            address,
            interface: interface.map(str::to_owned),
        }),
        _ => Err(expects(
            node,
            "a multicast group such as \"225.1.1.1:1883\" or \"[ff03::1%wpan0]:1883\"",
        )),
    }
}

/// An IP network: `10.0.0.0/8`, `::1`, or `any`.
pub(super) fn network(reader: &Reader<'_>, node: &Node) -> Read<Network> {
    let text = text(reader, node)?;
    if text == "any" {
        return Ok(Network::Any);
    }
    let (base, prefix) = match text.split_once('/') {
        Some((base, prefix)) => (base, Some(prefix)),
        None => (text.as_str(), None),
    };
    let parsed = base.parse::<IpAddr>().ok().and_then(|base| {
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
        (prefix <= longest).then_some(Network::Ip { base, prefix })
    });
    parsed.ok_or_else(|| expects(node, "a network such as \"10.0.0.0/8\", an address, or any"))
}

/// Who may, on a link of radios: a radio address in quotes, or `any`.
pub(super) fn radio(reader: &Reader<'_>, node: &Node) -> Read<Network> {
    if node.text().is_none() && node.is_scalar() {
        let message = format!(
            "a radio address needs quotes, or it is read as the number {node}: \"0013A200.40A01234\""
        );
        return Err(Problem::new(node.place, message));
    }
    let text = text(reader, node)?;
    if text == "any" {
        return Ok(Network::Any);
    }
    let Some(address) = radio_address(&text) else {
        return Err(expects(
            node,
            "a radio address in hexadecimal such as \"0013A200.40A01234\", or any",
        ));
    };
    // Of 0013200040501234 some YAML readers make a number, and of 1E10 another.
    if reader.is_plain(node) {
        let message = format!("a radio address needs quotes, write \"{text}\"");
        return Err(Problem::new(node.place, message));
    }
    Ok(Network::Radio(address))
}

fn radio_address(text: &str) -> Option<RadioAddress> {
    let digits: String = text.chars().filter(|c| !matches!(c, '.' | ':')).collect();
    let octets: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
            _ => None,
        })
        .collect();
    RadioAddress::new(&octets?)
}

fn hex_digit(character: u8) -> Option<u8> {
    let digit = char::from(character).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// A number, with or without a point, within bounds.
pub(super) fn decimal(from: f64, to: f64) -> impl Fn(&Reader<'_>, &Node) -> Read<f64> {
    move |_, node| {
        let value = match node.value {
            Value::Integer(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        value
            .filter(|value| (from..=to).contains(value))
            .ok_or_else(|| expects(node, &format!("a number from {from} to {to}")))
    }
}

/// Writes a duration as the file would have it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, factor) in UNITS.iter().rev() {
        let factor = u128::from(*factor);
        if millis != 0 && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    "0s".to_owned()
}

/// Writes a number of octets as the file would have it.
pub(super) fn show_size(octets: usize) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if octets != 0 && octets.is_multiple_of(factor) {
            return format!("{}{unit}", octets / factor);
        }
    }
    format!("{octets}B")
}

/// A problem: the value is not what it should be.
pub(super) fn expects(node: &Node, expected: &str) -> Problem {
    let shown = match node.text() {
        Some(text) => format!("'{text}'"),
        None => node.to_string(),
    };
    Problem::new(node.place, format!("{shown} is not {expected}"))
}

/// A problem with advice, as an error.
fn wrong<T>(node: &Node, advice: &str) -> Read<T> {
    Err(Problem::new(node.place, format!("'{node}': {advice}")))
}

/// Replaces each `${NAME}` from the environment.
fn expand(reader: &Reader<'_>, node: &Node, text: &str) -> Read<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err(Problem::new(node.place, "'${' without its '}'"));
        };
        let Some(value) = (reader.environment)(name) else {
            return Err(Problem::new(
                node.place,
                format!("the environment variable {name} is not set"),
            ));
        };
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Units of durations, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

fn parse_duration(text: &str) -> Option<Duration> {
    let (count, unit) = split_unit(text)?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(count.checked_mul(*factor)?))
}

fn parse_size(text: &str) -> Option<usize> {
    let (count, unit) = split_unit(text)?;
    let factor = match unit {
        "B" => 1,
        "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(count.checked_mul(factor)?).ok()
}

/// Splits `10 s` or `10s` into number and unit.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(end);
    Some((count.parse().ok()?, unit.trim_start()))
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|octet| octet.is_ascii_digit())
}
