//! What Home Assistant is told: the gateway as one device, each node as one below it. Diagnostic
//! entities only; payloads of nodes are nobody's business here.

use std::fmt::Write;

use serde_json::{Value, json};

use super::clients::Announced;
use super::connection::{OFFLINE, ONLINE};
use super::topics::Topics;

/// Where Home Assistant looks.
const PREFIX: &str = "homeassistant";
/// Where Home Assistant says that it has started.
pub(super) const BIRTH: &str = "homeassistant/status";

/// A retained message; one without payload removes an entity.
pub(super) type Entity = (String, Option<Value>);

/// Names what Home Assistant is told of one gateway.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    topics: Topics,
    gateway: String,
    /// Part of every id.
    id: String,
    commands: bool,
}

impl Discovery {
    pub(super) fn new(topics: Topics, gateway: &str, commands: bool) -> Self {
        let id = format!("mqttsn_{}", word(gateway));
        Self {
            topics,
            gateway: gateway.to_owned(),
            id,
            commands,
        }
    }

    /// Returns the entities of the gateway and its links.
    pub(super) fn gateway(&self, links: &[String]) -> Vec<Entity> {
        let device = json!({
            "identifiers": [self.id],
            "name": self.gateway,
            "model": "MQTT-SN gateway",
            "sw_version": env!("CARGO_PKG_VERSION"),
        });
        let id = &self.id;
        let mut entities = vec![
            // It says itself whether it is there.
            self.entity(
                "binary_sensor",
                &format!("{id}_connection"),
                &device,
                &[],
                json!({
                    "name": "Connection",
                    "device_class": "connectivity",
                    "state_topic": self.topics.status(),
                    "payload_on": ONLINE,
                    "payload_off": OFFLINE,
                }),
            ),
            self.number(
                &device,
                "clients",
                "Clients connected",
                "{{ value_json.nodes_connected }}",
                "measurement",
            ),
            self.number(
                &device,
                "dropped",
                "Packets dropped",
                "{{ value_json.dropped }}",
                "total_increasing",
            ),
            self.number(
                &device,
                "lost",
                "Nodes lost",
                "{{ value_json.traffic.lost }}",
                "total_increasing",
            ),
            self.entity(
                "sensor",
                &format!("{id}_version"),
                &device,
                &[self.topics.status()],
                json!({
                    "name": "Version",
                    "state_topic": self.topics.info(),
                    "value_template": "{{ value_json.version }}",
                }),
            ),
        ];
        for link in links {
            let object = format!("{id}_link_{}", word(link));
            let status = [self.topics.status()];
            entities.push(self.entity(
                "binary_sensor",
                &object,
                &device,
                &status,
                json!({
                    "name": format!("Link {link}"),
                    "device_class": "connectivity",
                    "state_topic": self.topics.link_status(link),
                    "payload_on": ONLINE,
                    "payload_off": OFFLINE,
                }),
            ));
        }
        let object = format!("{id}_permit");
        if self.commands {
            let (topic, payload) = self.entity(
                "switch",
                &object,
                &device,
                &[self.topics.status()],
                json!({
                    "name": "Permit any client",
                    "state_topic": self.topics.info(),
                    "value_template": "{{ 'ON' if value_json.permit else 'OFF' }}",
                    "command_topic": self.topics.request("permit"),
                    "payload_on": "{\"seconds\": 120}",
                    "payload_off": "{\"seconds\": 0}",
                    "state_on": "ON",
                    "state_off": "OFF",
                }),
            );
            let payload = payload.map(|mut payload| {
                payload["entity_category"] = "config".into();
                payload
            });
            entities.push((topic, payload));
        } else {
            entities.push((topic("switch", &object), None));
        }
        entities
    }

    /// Returns the entities of a node on a link.
    pub(super) fn node(&self, client_id: &str, link: &str, announced: Announced) -> Vec<Entity> {
        let device = json!({
            "identifiers": [self.node_id(client_id)],
            "name": client_id,
            "model": "MQTT-SN node",
            "via_device": self.id,
        });
        let availability = [self.topics.status(), self.topics.link_status(link)];
        let state = self.topics.state(client_id);
        let of = |kind, what: &str, members| {
            let object = format!("{}_{what}", self.node_id(client_id));
            self.entity(kind, &object, &device, &availability, members)
        };
        let mut entities = Vec::new();
        if announced >= Announced::WithoutSignal {
            entities.push(of(
                "binary_sensor",
                "connection",
                json!({
                    "name": "Connection",
                    "device_class": "connectivity",
                    "state_topic": self.topics.availability(client_id),
                    "payload_on": ONLINE,
                    "payload_off": OFFLINE,
                }),
            ));
            entities.push(of(
                "sensor",
                "last_seen",
                json!({
                    "name": "Last seen",
                    "device_class": "timestamp",
                    "state_topic": state,
                    "value_template": "{{ value_json.last_seen }}",
                }),
            ));
        }
        if announced == Announced::WithSignal {
            entities.push(of(
                "sensor",
                "rssi",
                json!({
                    "name": "Signal",
                    "device_class": "signal_strength",
                    "unit_of_measurement": "dBm",
                    "state_class": "measurement",
                    "state_topic": state,
                    "value_template": "{{ value_json.rssi }}",
                }),
            ));
        }
        entities
    }

    /// Returns what removes a node.
    pub(super) fn without(&self, client_id: &str) -> Vec<Entity> {
        [
            ("binary_sensor", "connection"),
            ("sensor", "last_seen"),
            ("sensor", "rssi"),
        ]
        .map(|(kind, what)| {
            (
                topic(kind, &format!("{}_{what}", self.node_id(client_id))),
                None,
            )
        })
        .into()
    }

    fn node_id(&self, client_id: &str) -> String {
        format!("{}_node_{}", self.id, word(client_id))
    }

    fn number(
        &self,
        device: &Value,
        what: &str,
        name: &str,
        template: &str,
        class: &str,
    ) -> Entity {
        let object = format!("{}_{what}", self.id);
        self.entity(
            "sensor",
            &object,
            device,
            &[self.topics.status()],
            json!({
                "name": name,
                "state_topic": self.topics.stats(),
                "value_template": template,
                "state_class": class,
            }),
        )
    }

    /// Completes an entity: it is available while all the topics say `online`.
    fn entity(
        &self,
        kind: &str,
        object: &str,
        device: &Value,
        availability: &[String],
        mut members: Value,
    ) -> Entity {
        members["unique_id"] = object.into();
        members["object_id"] = object.into();
        members["entity_category"] = "diagnostic".into();
        members["device"] = device.clone();
        members["origin"] =
            json!({"name": "mqtt-sn-gateway", "sw_version": env!("CARGO_PKG_VERSION")});
        if !availability.is_empty() {
            let topics = availability.iter().map(|topic| json!({"topic": topic}));
            members["availability"] = topics.collect();
            members["availability_mode"] = "all".into();
        }
        (topic(kind, object), Some(members))
    }
}

fn topic(kind: &str, object: &str) -> String {
    format!("{PREFIX}/{kind}/{object}/config")
}

/// Makes an id of letters, digits, `-` and `_` of any text, another for each text.
fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => word.push(octet.into()),
            // Writing to a string does not fail.
            octet => drop(write!(word, "_{octet:02x}")),
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(commands: bool) -> Discovery {
        Discovery::new(Topics::new("mqttsn/gw".to_owned()), "gw", commands)
    }

    #[test]
    fn every_entity_is_diagnostic_and_says_when_it_is_available() {
        let mut entities = discovery(false).gateway(&["udp".to_owned()]);
        entities.extend(discovery(false).node("a/b", "udp", Announced::WithSignal));
        let with_payload = entities
            .iter()
            .filter_map(|(topic, payload)| Some((topic, payload.as_ref()?)));
        assert_eq!(with_payload.clone().count(), 9);
        for (topic, payload) in with_payload {
            assert_eq!(payload["entity_category"], "diagnostic", "{topic}");
            let own = payload["unique_id"] == "mqttsn_gw_connection";
            assert_eq!(payload["availability"].is_array(), !own, "{topic}");
        }
    }

    #[test]
    fn a_hostile_client_id_makes_one_level_of_letters() {
        let entities = discovery(false).node("a/b+#\u{1F980}", "udp", Announced::WithoutSignal);
        let (topic, payload) = &entities[0];
        let id = "mqttsn_gw_node_a_2fb_2b_23_f0_9f_a6_80_connection";
        assert_eq!(topic, &format!("homeassistant/binary_sensor/{id}/config"));
        let payload = payload.as_ref().expect("an entity");
        assert_eq!(
            payload["state_topic"],
            "mqttsn/gw/clients/a%2fb%2b%23\u{1F980}/availability"
        );
        assert_eq!(
            payload["availability"][1]["topic"],
            "mqttsn/gw/links/udp/status"
        );
    }

    #[test]
    fn the_permit_switch_is_there_with_commands_only() {
        let switch = |commands| {
            discovery(commands)
                .gateway(&[])
                .into_iter()
                .find(|(topic, _)| topic.contains("/switch/"))
        };
        assert!(switch(true).expect("named").1.is_some());
        assert!(switch(false).expect("named, to remove it").1.is_none());
    }
}
