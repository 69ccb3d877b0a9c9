//! Requests to the interface of a running gateway.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use mqtt_sn_gateway::api::HttpConfig;
use mqtt_sn_gateway::config;
use serde_json::Value;

/// The gateway answers at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway that can be asked.
pub(super) struct Client {
    base: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody answers.
    #[error(
        "no gateway answers at {base}: {error}\n\
         Is it running, and is http: on in its configuration? Name another with --http URL or --config FILE"
    )]
    Unreachable {
        base: String,
        error: Box<ureq::Error>,
    },
    /// The gateway refused, in its words.
    #[error("{0}")]
    Refused(String),
    /// Something on this side.
    #[error("{0}")]
    Here(String),
}

impl Client {
    /// Takes address and token from the options, else from the configuration, else the default.
    pub(super) fn new(
        base: Option<&str>,
        token_file: Option<&Path>,
        named: Option<&Path>,
    ) -> Result<Self, Failure> {
        let found = config::locate(named).and_then(|path| config::load(&path));
        let http = match found {
            Ok(config) => config.http,
            // Without a configuration of its own this may be another machine.
            Err(_) if named.is_none() => Some(HttpConfig::default()),
            Err(error) => return Err(Failure::Here(error.to_string())),
        };
        let base = match (base, &http) {
            (Some(base), _) => base.trim_end_matches('/').to_owned(),
            (None, Some(http)) => {
                let mut listen = http.listen;
                if listen.ip().is_unspecified() {
                    listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
                }
                format!("http://{listen}")
            }
            (None, None) => {
                let error = "http is off in the configuration: there is nobody to ask";
                return Err(Failure::Here(error.to_owned()));
            }
        };
        let token = match token_file {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                let text = read.map_err(|error| {
                    Failure::Here(format!("cannot read {}: {error}", file.display()))
                })?;
                Some(text.trim().to_owned())
            }
            None => http
                .and_then(|http| http.token)
                .map(|token| token.to_string()),
        };
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .http_status_as_error(false)
            .build();
        Ok(Self {
            base,
            token,
            agent: agent.into(),
        })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.agent.get(self.url(path)).call())
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut request = self.agent.post(self.url(path));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.answer(request.send_json(body))
    }

    /// Opens an answer that does not end.
    pub(super) fn stream(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        let called = self.agent.get(self.url(path)).call();
        let mut response = called.map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            let answer = response.body_mut().read_json::<Value>();
            return Err(refused(&answer.unwrap_or_default()));
        }
        Ok(response.into_body().into_reader())
    }

    fn answer(
        &self,
        called: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, Failure> {
        let mut response = called.map_err(|error| self.unreachable(error))?;
        let answer = response
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_json();
        let answer = answer.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            Ok(answer)
        } else {
            Err(refused(&answer))
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn unreachable(&self, error: ureq::Error) -> Failure {
        Failure::Unreachable {
            base: self.base.clone(),
            error: Box::new(error),
        }
    }
}

fn refused(answer: &Value) -> Failure {
    let error = answer["error"]
        .as_str()
        .unwrap_or("the gateway refused")
        .to_owned();
    Failure::Refused(error)
}

/// Percent-encodes a part of a path or query.
pub(super) fn encoded(text: &str) -> String {
    let encode = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
            char::from(octet).to_string()
        }
        octet => format!("%{octet:02X}"),
    };
    text.bytes().map(encode).collect()
}
