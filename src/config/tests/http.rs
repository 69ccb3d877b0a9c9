//! `http`: off, or safe.

use super::{good, read};
use crate::api::HttpConfig;

#[test]
fn http_is_off_or_safe() {
    assert_eq!(good("http: off").http, None);
    assert_eq!(good("").http, Some(HttpConfig::default()));
    let listens = |text: &str| good(text).http.expect("on").listen.to_string();
    assert_eq!(listens("http: {listen: '[::1]:80'}"), "[::1]:80");
    for (text, complaint) in [
        (
            "http: {listen: '0.0.0.0:8080'}",
            "can be reached by others, so it needs token",
        ),
        ("http: {token: short}", "a token is 16 or more"),
        ("http: on", "'on' is not off, or {listen"),
        ("http: {port: 80}", "unknown key 'port'"),
    ] {
        let message = read(text).expect_err(text);
        assert!(message.contains(complaint), "{message}");
        assert!(!message.contains("short"), "{message}");
    }
}
