//! `gateway` and `clients`: numbers and switches.

use std::time::Duration;

use super::{compare, good, read};

#[test]
fn numbers_and_truth_values_are_what_they_look_like() {
    let numbers = [
        ("10", Ok(10)),
        ("0x0A", Ok(10)),
        ("010", Err("write 10")),
        ("1_0", Err("is not a whole number from 1 to 255")),
        ("\"10\"", Err("without quotes")),
        ("10.0", Err("is not a whole number")),
        ("-1", Err("is not a whole number")),
        ("256", Err("is not a whole number from 1 to 255")),
        ("99999999999999999999999", Err("is not a whole number")),
        ("ten", Err("is not a whole number")),
    ];
    for (written, expected) in numbers {
        let result = read(&format!("gateway: {{id: {written}}}"));
        compare(written, &result.map(|c| c.settings.gateway_id), &expected);
    }
    let truths = [
        ("true", Ok(true)),
        ("False", Ok(false)),
        ("on", Err("write true")),
        ("off", Err("write false")),
        ("Yes", Err("write true")),
        ("n", Err("write false")),
        ("1", Err("write true or false")),
        ("\"true\"", Err("write true or false")),
    ];
    for (written, expected) in truths {
        let result = read(&format!("clients: {{probe: {written}}}"));
        compare(
            written,
            &result.map(|c| c.settings.session.probe),
            &expected,
        );
    }
}

/// What the specification recommends for them [S 7.2].
#[test]
fn timers_have_the_recommended_values() {
    let serial = "{type: serial, device: /dev/ttyUSB0, framing: slip}";
    let settings = good(&format!("links: [{{type: udp}}, {serial}]")).settings;
    assert_eq!(settings.links.len(), 2);
    for link in &settings.links {
        assert!((10..=15).contains(&link.retry.as_secs()));
        assert!((3..=5).contains(&link.retries));
    }
    let advertise = settings.advertise.expect("it does");
    assert!(advertise >= Duration::from_secs(15 * 60));
}

#[test]
fn a_gateway_stands_by_for_another_one_that_advertises() {
    let cases = [
        ("standby_for: 2", Ok(Some(2))),
        ("standby_for: 1", Err("is the id of this gateway itself")),
        (
            "id: 7, standby_for: 7",
            Err("is the id of this gateway itself"),
        ),
        ("standby_for: 0", Err("is not a whole number from 1 to 255")),
        (
            "advertise: never, standby_for: 2",
            Err("there is nothing to take over"),
        ),
    ];
    for (written, expected) in cases {
        let result = read(&format!("gateway: {{{written}}}"));
        compare(written, &result.map(|c| c.settings.standby_for), &expected);
    }
}
