//! `links`: names, durations, sizes, and who may do what.

use super::{compare, good, read};

#[test]
fn links_without_a_name_get_one() {
    let config = good("links: [{type: udp, listen: [1]}, {type: udp, listen: [2]}]");
    let names: Vec<_> = config.settings.links.iter().map(|l| &*l.name).collect();
    assert_eq!(names, ["udp", "udp2"]);
}

#[test]
fn durations_have_units() {
    let cases = [
        ("500ms", Ok(500)),
        ("10s", Ok(10_000)),
        ("10 s", Ok(10_000)),
        ("15m", Ok(900_000)),
        ("1h", Ok(3_600_000)),
        ("10", Err("write 10s")),
        ("1d", Err("from 10ms to 1h")),
        ("0s", Err("from 10ms to 1h")),
        ("1.5s", Err("is not a duration")),
        ("10S", Err("is not a duration")),
        ("s", Err("is not a duration")),
        ("-10s", Err("is not a duration")),
        ("99999999999999999999s", Err("is not a duration")),
        ("9999999999999999d", Err("is not a duration")),
        ("1h30m", Err("is not a duration")),
        ("true", Err("text is wanted")),
        ("[10s]", Err("not text")),
    ];
    for (written, expected) in cases {
        let result = read(&format!("links: [{{type: udp, retry: {written}}}]"));
        let result = result.map(|config| config.settings.links[0].retry.as_millis());
        compare(written, &result, &expected);
    }
}

#[test]
fn sizes_may_have_units() {
    let cases = [
        ("1200", Ok(1200)),
        ("1200B", Ok(1200)),
        ("2kB", Ok(2000)),
        ("64KiB", Err("from 16 to 65507 octets")),
        ("63KiB", Ok(64_512)),
        ("15", Err("from 16 to 65507 octets")),
        ("-1", Err("is not a size")),
        ("0100", Err("is not a size")),
        ("1K", Err("is not a size")),
        ("64 kib", Err("is not a size")),
        ("1e3", Err("text is wanted")),
        ("99999999999GiB", Err("is not a size")),
    ];
    for (written, expected) in cases {
        let result = read(&format!("links: [{{type: udp, max_message: {written}}}]"));
        let result = result.map(|config| config.settings.links[0].max_message);
        compare(written, &result, &expected);
    }
}

/// YAML readers make numbers of some radio addresses, each of others: none is taken without quotes, wherever
/// one stands.
#[test]
fn radio_addresses_are_quoted() {
    let places = ["forwarders: [A]", "qos_minus_one: {allow: [A]}"];
    let read_as_number = "a radio address needs quotes, or it is read as the number";
    let cases = [
        ("'0013200040501234'", Ok(())),
        ("\"0013A200.40A01234\"", Ok(())),
        ("\"00:13:a2:00:40:a0:12:34\"", Ok(())),
        ("\"17\"", Ok(())),
        ("any", Ok(())),
        ("0013200040501234", Err("write \"0013200040501234\"")),
        ("0013A200", Err("write \"0013A200\"")),
        ("0013A200.40A01234", Err("write \"0013A200.40A01234\"")),
        ("00:13:a2", Err("write \"00:13:a2\"")),
        ("17:30", Err("write \"17:30\"")),
        ("0017", Err("write \"0017\"")),
        ("a0", Err("write \"a0\"")),
        ("1013200040501234", Err(read_as_number)),
        ("17", Err(read_as_number)),
        ("1e5", Err(read_as_number)),
        ("12E10", Err(read_as_number)),
        ("0x17", Err(read_as_number)),
        ("0o17", Err(read_as_number)),
        ("0b11", Err(read_as_number)),
        ("1_0", Err("is not a radio address")),
        ("\"17000\"", Err("is not a radio address")),
    ];
    for place in places {
        for (address, expected) in &cases {
            let place = place.replace('A', address);
            let link = format!("{{type: serial, device: /dev/ttyUSB0, framing: xbee, {place}}}");
            let result = read(&format!("links:\n- {link}")).map(|_| ());
            compare(&link, &result, expected);
        }
    }
    let anchored = "[&module \"0017\", *module]";
    good(&format!(
        "links: [{{type: serial, device: /d, framing: xbee, forwarders: {anchored}}}]"
    ));
}
