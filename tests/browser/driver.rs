//! A Chromium without a window, driven over WebDriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::process::PATIENCE;

/// A browser with one page; closed when dropped.
pub(crate) struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is there: apt-get install chromium chromium-driver");
        let said = BufReader::new(driver.stdout.take().expect("a pipe"));
        let mut lines = said.lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        // The pipe is read on, or the driver would wait for it one day.
        std::thread::spawn(move || lines.for_each(drop));
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(3 * PATIENCE))
            .http_status_as_error(false)
            .build()
            .into();
        let mut browser = Self {
            driver,
            agent,
            session: format!("http://127.0.0.1:{}/session", port.expect("it starts")),
        };
        // Root may not use the sandbox; the page is our own.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--window-size=1280,900",
        ];
        let options = json!({"args": arguments});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options});
        let body = json!({"capabilities": {"alwaysMatch": wanted}});
        let answer = browser.call("", &body);
        let id = answer["sessionId"].as_str().expect("a session");
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.call("/url", &json!({"url": url}));
    }

    /// Runs a function body in the page; returns what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.call("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Runs a function body until it returns something true, and returns that.
    #[track_caller]
    pub(crate) fn until(&self, script: &str) -> Value {
        for _ in 0..400 {
            let value = self.run(script);
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let page = self.run("return document.body.innerText");
        panic!(
            "never true: {script}\n{}",
            page.as_str().unwrap_or_default()
        );
    }

    /// Presses keys, one after the other, as WebDriver names them.
    pub(crate) fn press(&self, keys: &str) {
        let mut actions = Vec::new();
        for key in keys.chars() {
            for kind in ["keyDown", "keyUp"] {
                actions.push(json!({"type": kind, "value": key}));
            }
        }
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.call("/actions", &json!({"actions": [keyboard]}));
    }

    /// Gives a command of Chromium's own protocol.
    pub(crate) fn command(&self, name: &str, parameters: &Value) {
        let body = json!({"cmd": name, "params": parameters});
        self.call("/goog/cdp/execute", &body);
    }

    /// Takes a picture of the page, as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let url = format!("{}/screenshot", self.session);
        let mut answer = self.agent.get(url).call().expect("answered");
        let text = answer.body_mut().with_config().limit(1 << 26);
        let answer: Value = text.read_json().expect("JSON");
        let picture = answer["value"].as_str().expect("base64");
        STANDARD.decode(picture).expect("base64")
    }

    #[track_caller]
    fn call(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let sent = self.agent.post(url).send_json(body);
        let mut answer = sent.expect("answered");
        let value: Value = answer.body_mut().read_json().expect("JSON");
        assert_eq!(answer.status().as_u16(), 200, "{path}: {value}");
        value["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, not with the driver.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
