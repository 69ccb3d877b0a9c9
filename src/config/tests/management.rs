//! `management`: off, or below a topic.

use super::{good, read};
use crate::management::ManagementConfig;

#[test]
fn management_is_off_or_below_a_topic() {
    assert_eq!(good("management: off").management, None);
    assert_eq!(good("").management, Some(ManagementConfig::default()));
    let base = |text: &str| {
        let config = good(text);
        config.management.expect("on").base(&config.settings.name)
    };
    assert_eq!(base(""), "mqttsn/mqtt-sn-gateway");
    assert_eq!(base("gateway: {name: hall1/a}"), "mqttsn/hall1%2fa");
    assert_eq!(base("management: {topic: plant/gw/}"), "plant/gw");
    for text in [
        "management: {topic: 'a/+'}",
        "management: {topic: '$SYS'}",
        "management: {topic: ''}",
        "management: {stats: 10ms}",
        "management: {stats: 2days}",
        "management: yes",
    ] {
        read(text).expect_err(text);
    }
}
