//! A scenario worked out: every node with its steps, every event with its time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mqtt_sn_gateway::wire::{QoS, TopicId};

use super::expect::Expectation;
use super::scenario::{
    Event, Expect, Group, PublishEntry, Scenario, Span, StepEntry, SubscribeEntry, WillEntry,
};
use crate::net::Faults;
use crate::script::{PublishStep, Step, TopicStep, WillStep};
use crate::session::{Config, Will};
use crate::template::{Template, Values};

/// Most nodes of a run.
const MAX_NODES: usize = 100_000;

/// How long a run without `duration` lasts when nodes go round in loops.
const USUAL_DURATION: Duration = Duration::from_secs(60);

/// A run worked out.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) about: Option<String>,
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    /// How long what is under way at the end may take; as the nodes are patient if not given.
    pub(crate) drain: Option<Duration>,
    pub(crate) nodes: Vec<NodePlan>,
    /// In the order of their time.
    pub(crate) events: Vec<(Duration, Action)>,
    pub(crate) broker: Option<String>,
    pub(crate) expectations: Vec<Expectation>,
    /// Topics of the Wills that must be published, and no others.
    pub(crate) wills: Option<Vec<String>>,
    /// Names of pre-defined ids.
    pub(crate) predefined: BTreeMap<TopicId, String>,
    /// Pause of a node whose CONNECT failed.
    pub(crate) patience: Duration,
}

#[derive(Debug)]
pub(crate) struct NodePlan {
    pub(crate) config: Config,
    pub(crate) starts: Duration,
    pub(crate) steps: Arc<[Arc<Step>]>,
    pub(crate) again: Arc<[Arc<Step>]>,
    pub(crate) faults: (Faults, Faults),
}

/// What an event does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Kill(Nodes),
    Reboot(Nodes),
    Move(Nodes),
    PauseLink(Duration),
    Publish {
        topic: String,
        payload: String,
        qos: QoS,
    },
}

/// Nodes by client id; `*` at the end fits any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nodes(String);

impl Nodes {
    pub(crate) fn contain(&self, id: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => id.starts_with(start),
            None => id == self.0,
        }
    }
}

/// What the command line adds to a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overrides {
    /// Everything takes this many times less time.
    pub(crate) speed: f64,
    pub(crate) seed: Option<u64>,
    pub(crate) duration: Option<Duration>,
    pub(crate) drain: Option<Duration>,
    /// `T_retry` of every node.
    pub(crate) t_retry: Option<Duration>,
    /// `N_retry` of every node.
    pub(crate) n_retry: Option<u32>,
    /// Faults instead of the scenario's, if there are any.
    pub(crate) faults: Option<(Faults, Faults)>,
}

impl Plan {
    pub(crate) fn new(scenario: &Scenario, overrides: Overrides) -> Result<Self, String> {
        let planner = Planner {
            scenario,
            overrides,
        };
        planner.plan()
    }
}

struct Planner<'a> {
    scenario: &'a Scenario,
    overrides: Overrides,
}

impl Planner<'_> {
    fn plan(&self) -> Result<Plan, String> {
        let scenario = self.scenario;
        let mut nodes = Vec::new();
        let mut predefined = BTreeMap::new();
        for group in &scenario.groups {
            let named = |why: String| format!("group {:?}: {why}", group.name);
            if nodes.len() + group.count > MAX_NODES {
                return Err(named(format!("more than {MAX_NODES} nodes")));
            }
            self.add_group(group, &mut nodes).map_err(named)?;
            for topic in &group.topics {
                if let (Some(id), Some(name)) = (topic.predefined, &topic.name) {
                    predefined.insert(TopicId(id), name.clone());
                }
            }
        }
        if nodes.is_empty() {
            return Err("there are no nodes: a group is missing".into());
        }
        let mut events = Vec::new();
        for (number, event) in scenario.events.iter().enumerate() {
            let action = self
                .action(event)
                .map_err(|why| format!("event {}: {why}", number + 1))?;
            events.push((self.scaled(event.at), action));
        }
        events.sort_by_key(|(at, _)| *at);
        for (_, action) in &events {
            let (Action::Kill(of) | Action::Reboot(of) | Action::Move(of)) = action else {
                continue;
            };
            if !nodes
                .iter()
                .any(|node: &NodePlan| of.contain(&node.config.client_id))
            {
                return Err(format!("events: there is no node {:?}", of.0));
            }
        }
        let Expect {
            broker,
            will,
            figures,
        } = scenario.expect.clone().unwrap_or_default();
        let expectations = figures.iter().map(|(name, wanted)| {
            Expectation::new(name, &wanted.0).map_err(|why| format!("expect: {why}"))
        });
        let given = scenario.duration.map(|span| self.scaled(span));
        Ok(Plan {
            about: scenario.about.clone(),
            seed: self.overrides.seed.unwrap_or(scenario.seed),
            duration: self.overrides.duration.or(given).unwrap_or(USUAL_DURATION),
            drain: self.overrides.drain,
            nodes,
            events,
            broker,
            expectations: expectations.collect::<Result<_, _>>()?,
            wills: will,
            predefined,
            patience: Duration::from_secs_f64(5.0 / self.overrides.speed),
        })
    }

    fn add_group(&self, group: &Group, nodes: &mut Vec<NodePlan>) -> Result<(), String> {
        let mut steps = Vec::new();
        for topic in &group.topics {
            match (&topic.name, topic.predefined) {
                (Some(name), None) => steps.push(Step::Register(Template::parse(name)?)),
                (_, Some(_)) => {}
                (None, None) => {
                    return Err("a topic has a name, or a pre-defined id, or both".into());
                }
            }
        }
        for entry in &group.steps {
            steps.push(self.step(entry)?);
        }
        let again = group.again.iter().map(|entry| self.step(entry));
        let again = again.collect::<Result<Vec<Step>, String>>()?;
        if !again.is_empty() && !again.iter().any(Step::takes_time) {
            return Err("the loop has no sleep, wait or every: it would never pause".into());
        }
        let steps: Arc<[Arc<Step>]> = steps.into_iter().map(Arc::new).collect();
        let again: Arc<[Arc<Step>]> = again.into_iter().map(Arc::new).collect();
        let default_id = format!("{}-%i", group.name);
        let id = Template::parse(group.id.as_ref().unwrap_or(&default_id))?;
        let impaired = group.impair.unwrap_or(self.scenario.impair).faults();
        let ramp = self
            .scenario
            .ramp
            .map_or(Duration::ZERO, |span| self.scaled(span));
        for index in 0..group.count {
            let config = self.config(group, index, &id)?;
            if nodes
                .iter()
                .any(|node| node.config.client_id == config.client_id)
                && group.count < 2
            {
                return Err(format!("client id {:?} is taken", config.client_id));
            }
            nodes.push(NodePlan {
                config,
                starts: ramp * u32::try_from(nodes.len()).unwrap_or(u32::MAX),
                steps: Arc::clone(&steps),
                again: Arc::clone(&again),
                faults: self.overrides.faults.unwrap_or((impaired, impaired)),
            });
        }
        Ok(())
    }

    fn config(&self, group: &Group, index: usize, id: &Template) -> Result<Config, String> {
        let mut random = fastrand::Rng::with_seed(0);
        let mut render = |template: &Template, client_id: &str| {
            let values = Values {
                index,
                client_id,
                number: 0,
            };
            template.render(values, &mut random)
        };
        let client_id = render(id, "");
        let connect = &group.connect;
        let will = match &connect.will {
            None => None,
            Some(entry) => {
                let will = will_step(entry)?;
                Some(Will {
                    topic: render(&will.topic, &client_id),
                    payload: render(&will.payload, &client_id).into(),
                    qos: will.qos,
                    retain: will.retain,
                })
            }
        };
        let keep_alive = connect.keepalive.unwrap_or(60);
        let scaled = (f64::from(keep_alive) / self.overrides.speed).ceil();
        let written = connect.t_retry.map(|span| span.0);
        let retry = self.overrides.t_retry.or(written);
        let retry = retry.unwrap_or(Duration::from_secs(10));
        Ok(Config {
            client_id,
            keep_alive: scaled.min(65_535.0) as u16,
            clean_session: connect.clean.unwrap_or(true),
            will,
            retry: self.scaled(Span(retry)),
            retries: self.overrides.n_retry.or(connect.n_retry).unwrap_or(3),
            window: 1,
            wireless_node_id: None,
        })
    }

    fn step(&self, entry: &StepEntry) -> Result<Step, String> {
        Ok(match entry {
            StepEntry::Connect => Step::Connect,
            StepEntry::Disconnect => Step::Disconnect,
            StepEntry::Drop => Step::Drop,
            StepEntry::Move => Step::Move,
            StepEntry::Wake => Step::Wake,
            StepEntry::Ping => Step::Ping,
            StepEntry::Register(name) => Step::Register(Template::parse(name)?),
            StepEntry::Publish(publish) => Step::Publish(self.publish(publish)?),
            StepEntry::Subscribe(subscribe) => {
                let qos = qos(subscribe.qos, 0)?;
                Step::Subscribe(filter(subscribe)?, qos)
            }
            StepEntry::Unsubscribe(subscribe) => Step::Unsubscribe(filter(subscribe)?),
            StepEntry::Sleep(span) => {
                let span = self.scaled(*span).max(Duration::from_secs(1));
                if span > Duration::from_secs(65_535) {
                    return Err("a sleep lasts at most 65535 s (18 h 12 min)".into());
                }
                Step::Sleep(span)
            }
            StepEntry::Wait(span) => Step::Wait(self.scaled(*span)),
            StepEntry::Will(will) => Step::Will(will_step(will)?),
        })
    }

    fn publish(&self, entry: &PublishEntry) -> Result<PublishStep, String> {
        let qos = qos(entry.qos, -1)?;
        let topic = topic(
            entry.topic.as_deref(),
            entry.short.as_deref(),
            entry.predefined,
        )?;
        if qos == QoS::MinusOne && matches!(topic, TopicStep::Name(_)) {
            return Err("QoS -1 needs `short` or `predefined`, not `topic`".into());
        }
        let every = entry.every.map_or(Duration::ZERO, |span| self.scaled(span));
        Ok(PublishStep {
            topic,
            payload: Template::parse(&entry.payload)?,
            qos,
            retain: entry.retain,
            count: entry.count.unwrap_or(1).max(1),
            every,
        })
    }

    fn action(&self, event: &Event) -> Result<Action, String> {
        let nodes = |name: &String| Nodes(name.clone());
        let mut actions = Vec::new();
        actions.extend(event.kill.as_ref().map(nodes).map(Action::Kill));
        actions.extend(event.reboot.as_ref().map(nodes).map(Action::Reboot));
        actions.extend(event.move_.as_ref().map(nodes).map(Action::Move));
        actions.extend(
            event
                .pause_gateway_link
                .map(|span| Action::PauseLink(self.scaled(span))),
        );
        if let Some(publish) = &event.publish {
            actions.push(Action::Publish {
                topic: publish.topic.clone(),
                payload: publish.payload.clone(),
                qos: qos(i8::try_from(publish.qos).unwrap_or(i8::MAX), 0)?,
            });
        }
        let one = actions.pop().filter(|_| actions.is_empty());
        one.ok_or_else(|| {
            "it has exactly one of kill, reboot, move, pause_gateway_link, publish".into()
        })
    }

    fn scaled(&self, span: Span) -> Duration {
        span.0.div_f64(self.overrides.speed)
    }
}

fn will_step(entry: &WillEntry) -> Result<WillStep, String> {
    Ok(WillStep {
        topic: Template::parse(&entry.topic)?,
        payload: Template::parse(&entry.payload)?,
        qos: qos(i8::try_from(entry.qos).unwrap_or(i8::MAX), 0)?,
        retain: entry.retain,
    })
}

fn filter(entry: &SubscribeEntry) -> Result<TopicStep, String> {
    topic(
        entry.topic.as_deref(),
        entry.short.as_deref(),
        entry.predefined,
    )
}

fn topic(
    name: Option<&str>,
    short: Option<&str>,
    predefined: Option<u16>,
) -> Result<TopicStep, String> {
    match (name, short.map(str::as_bytes), predefined) {
        (Some(name), None, None) if !name.is_empty() => Template::parse(name).map(TopicStep::Name),
        (None, Some(&[first, second]), None) => Ok(TopicStep::Short([first, second])),
        (None, Some(_), None) => Err("a short topic name has two characters".into()),
        (None, None, Some(id)) => Ok(TopicStep::Predefined(TopicId(id))),
        _ => Err("it needs one of topic, short and predefined".into()),
    }
}

fn qos(level: i8, least: i8) -> Result<QoS, String> {
    match level {
        -1 if least == -1 => Ok(QoS::MinusOne),
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(format!("qos {level}: it is {least} to 2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Overrides = Overrides {
        speed: 1.0,
        seed: None,
        duration: None,
        drain: None,
        t_retry: None,
        n_retry: None,
        faults: None,
    };

    fn plan(text: &str, overrides: Overrides) -> Result<Plan, String> {
        Plan::new(&Scenario::parse(text).unwrap(), overrides)
    }

    #[test]
    fn nodes_are_numbered_within_their_group_and_start_one_after_another() {
        let text = r#"
ramp: 100ms
groups:
  - {name: a, count: 2, connect: {will: {topic: "%c/lwt"}}, steps: [connect]}
  - {name: b, id: "x%i", steps: [connect]}
"#;
        let plan = plan(text, PLAIN).unwrap();
        let ids: Vec<&str> = plan.nodes.iter().map(|n| &*n.config.client_id).collect();
        assert_eq!(ids, ["a-0", "a-1", "x0"]);
        assert_eq!(plan.nodes[2].starts, Duration::from_millis(200));
        let will = plan.nodes[1].config.will.as_ref().unwrap();
        assert_eq!(will.topic, "a-1/lwt");
    }

    #[test]
    fn speed_shortens_everything_but_a_sleep_below_a_second() {
        let text = r#"
duration: 120s
groups:
  - {name: a, connect: {keepalive: 60}, loop: [sleep: 5s, wait: 10s, wake]}
events: [{at: 60s, pause_gateway_link: 30s}]
"#;
        let fast = Overrides {
            speed: 10.0,
            ..PLAIN
        };
        let plan = plan(text, fast).unwrap();
        assert_eq!(plan.duration, Duration::from_secs(12));
        let node = &plan.nodes[0];
        assert_eq!(node.config.keep_alive, 6);
        assert_eq!(*node.again[0], Step::Sleep(Duration::from_secs(1)));
        assert_eq!(*node.again[1], Step::Wait(Duration::from_secs(1)));
        let pause = Action::PauseLink(Duration::from_secs(3));
        assert_eq!(plan.events, [(Duration::from_secs(6), pause)]);
    }

    #[test]
    fn retries_of_the_command_line_win() {
        let text = r#"
groups:
  - {name: a, connect: {t_retry: 4s, n_retry: 5}}
  - {name: b}
"#;
        let retries = |overrides| {
            let nodes = plan(text, overrides).unwrap().nodes.into_iter();
            let retries = nodes.map(|node| (node.config.retry.as_secs(), node.config.retries));
            retries.collect::<Vec<_>>()
        };
        assert_eq!(retries(PLAIN), [(4, 5), (10, 3)]);
        let given = Overrides {
            t_retry: Some(Duration::from_secs(6)),
            n_retry: Some(1),
            ..PLAIN
        };
        assert_eq!(retries(given), [(6, 1), (6, 1)]);
        let fast = Overrides {
            speed: 2.0,
            ..given
        };
        assert_eq!(retries(fast), [(3, 1), (3, 1)], "as everything else");
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        for (text, expected) in [
            ("groups: []", "there are no nodes: a group is missing"),
            (
                "groups: [{name: a, loop: [publish: {topic: x}]}]",
                "group \"a\": the loop has no sleep, wait or every: it would never pause",
            ),
            (
                "groups: [{name: a, steps: [publish: {topic: x, qos: -1}]}]",
                "group \"a\": QoS -1 needs `short` or `predefined`, not `topic`",
            ),
            (
                "groups: [{name: a, steps: [publish: {short: abc}]}]",
                "group \"a\": a short topic name has two characters",
            ),
            (
                "groups: [{name: a, steps: [subscribe: {qos: 1}]}]",
                "group \"a\": it needs one of topic, short and predefined",
            ),
            (
                "groups: [{name: a, steps: [publish: {topic: \"{{x}}\"}]}]",
                "group \"a\": {{x}} is not known: there are {{rand LEAST MOST}}, {{seq}} and {{sine}}",
            ),
            (
                "groups: [{name: a}]\nevents: [{at: 1s, kill: b}]",
                "events: there is no node \"b\"",
            ),
            (
                "groups: [{name: a}]\nevents: [{at: 1s}]",
                "event 1: it has exactly one of kill, reboot, move, pause_gateway_link, publish",
            ),
            (
                "groups: [{name: a}, {name: a}]",
                "group \"a\": client id \"a-0\" is taken",
            ),
        ] {
            assert_eq!(plan(text, PLAIN).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_star_fits_any_rest() {
        assert!(Nodes("s-*".into()).contain("s-12"));
        assert!(!Nodes("s-1".into()).contain("s-12"));
    }
}
