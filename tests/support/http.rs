//! A client of the HTTP interface.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;

use crate::process::{PATIENCE, Process};

/// Where the interface is.
pub(crate) struct Http {
    pub(crate) base: String,
    agent: ureq::Agent,
}

/// Server-sent events as they come.
pub(crate) struct Events(BufReader<Box<dyn Read>>);

impl Http {
    /// Waits until a gateway says where its interface is.
    pub(crate) fn of(process: &Process) -> Self {
        let line = process.line("http: the page and the API are at ");
        let line = line.expect("it says so");
        let (_, url) = line.split_once(" at ").expect("an address");
        Self::at(url.trim_end_matches('/'))
    }

    pub(crate) fn at(base: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .http_status_as_error(false)
            .max_idle_connections(0)
            .build()
            .into();
        Self {
            base: base.to_owned(),
            agent,
        }
    }

    /// Gets a path; returns status and text.
    pub(crate) fn text(&self, path: &str) -> (u16, String) {
        let mut response = self
            .agent
            .get(format!("{}{path}", self.base))
            .call()
            .expect("answered");
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), text)
    }

    /// Gets a path that has to be there.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, text) = self.text(path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Posts JSON, perhaps with headers; returns status and answer.
    pub(crate) fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("Content-Type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).expect("answered");
        let text = response.body_mut().read_to_string().expect("text");
        let value = serde_json::from_str(&text).expect("JSON");
        (response.status().as_u16(), value)
    }

    /// Asks until the answer is as wanted, at most for as long as nothing takes.
    pub(crate) fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..200 {
            let (status, text) = self.text(path);
            let value = serde_json::from_str(&text).expect("JSON");
            if status == 200 && wanted(&value) {
                return value;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("{path} never became as wanted: {}", self.text(path).1);
    }

    /// Begins to listen: what happens from here on is heard.
    pub(crate) fn events(&self, query: &str) -> Events {
        let reader = self.stream(&format!("/api/events{query}"));
        let mut events = Events(BufReader::new(reader));
        assert_eq!(events.line(), ": connected");
        events
    }

    /// Opens a body that never ends.
    pub(crate) fn stream(&self, path: &str) -> Box<dyn Read> {
        let response = self
            .agent
            .get(format!("{}{path}", self.base))
            .call()
            .expect("answered");
        assert_eq!(response.status().as_u16(), 200);
        Box::new(response.into_body().into_reader())
    }
}

impl Events {
    /// Waits for the next event.
    pub(crate) fn next(&mut self) -> Value {
        loop {
            if let Some(json) = self.line().strip_prefix("data: ") {
                return serde_json::from_str(json).expect("JSON");
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).expect("it goes on"), 0);
        line.trim_end().to_owned()
    }
}
