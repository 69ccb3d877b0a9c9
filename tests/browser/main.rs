//! The page as a person sees it: a real Chromium in front of a real gateway.
#![cfg(feature = "daemon")]

mod driver;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "../support/http.rs"]
mod http;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "../support/mqtt.rs"]
mod mqtt;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "../support/node.rs"]
mod node;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "../support/process.rs"]
mod process;

mod looks;
mod many;
mod views;

use driver::Browser;
use http::Http;
use process::{Gateway, Mosquitto};

/// A gateway with its page open.
struct Shown {
    browser: Browser,
    http: Http,
    gateway: Gateway,
    mosquitto: Mosquitto,
}

impl Shown {
    fn start() -> Self {
        Self::with("{type: udp, listen: ['127.0.0.1:0']}", "", "")
    }

    /// With this link, further lines of configuration, and further keys of the broker's section.
    fn with(link: &str, lines: &str, broker: &str) -> Self {
        let mosquitto = Mosquitto::start();
        let gateway = Gateway::start(&format!(
            "gateway: {{name: hall-7}}\n\
             broker: {{url: 'mqtt://127.0.0.1:{}'{broker}}}\n\
             links: [{link}]\n\
             http: {{listen: '127.0.0.1:0'}}\nclients: {{allow: [plant/*, '<*', n*]}}\n{lines}\n",
            mosquitto.port
        ));
        let http = Http::of(&gateway.process);
        gateway.process.line("broker reached").expect("it is there");
        Self {
            browser: Browser::start(),
            http,
            gateway,
            mosquitto,
        }
    }

    /// Shows a view, and waits until it has something to show.
    #[track_caller]
    fn show(&self, view: &str) {
        self.browser.open(&format!("{}/#/{view}", self.http.base));
        self.browser
            .until("return document.querySelector('#main section') !== null");
    }
}
