//! The `http:` key: where the page, the API and the metrics are, or `off`.

use super::broker::{secret, secret_file};
use super::problem::Problem;
use super::section::{Reader, Section};
use super::value::{expects, socket_address};
use super::yaml::{Node, Value};
use crate::api::HttpConfig;

/// Shortest token: what nobody guesses over a network.
const TOKEN_MIN: usize = 16;

/// Reads `off`, or the section.
pub(super) fn read_http(reader: &Reader<'_>, node: &Node, http: &mut Option<HttpConfig>) {
    if node.text() == Some("off") || matches!(node.value, Value::Bool(false)) {
        *http = None;
        return;
    }
    if node.is_scalar() {
        reader.report(expects(node, "off, or {listen: \"127.0.0.1:8080\"}").about("http"));
        return;
    }
    let mut section = Section::open(reader, "http", node);
    let mut config = HttpConfig::default();
    section.set("listen", &mut config.listen, socket_address);
    let place = section.place("listen");
    let token = section.read("token", secret);
    let file = section.read("token_file", secret_file);
    if token.is_some() && file.is_some() {
        let at = section.place("token_file");
        reader.report(Problem::new(
            at,
            "token and token_file: one of them is enough",
        ));
    }
    config.token = token.or(file).map(Into::into);
    if let Some(token) = &config.token
        && (token.len() < TOKEN_MIN || !token.chars().all(|c| c.is_ascii_graphic()))
    {
        let at = section.place("token");
        let message = format!("a token is {TOKEN_MIN} or more letters, digits and signs, no space");
        reader.report(Problem::new(at, message));
    }
    if !config.listen.ip().to_canonical().is_loopback() && config.token.is_none() {
        let message = format!(
            "http: {} can be reached by others, so it needs token: \"...\" ({TOKEN_MIN} or more \
             characters) or token_file; without one listen on 127.0.0.1",
            config.listen
        );
        reader.report(Problem::new(place, message));
    }
    section.finish();
    *http = Some(config);
}
