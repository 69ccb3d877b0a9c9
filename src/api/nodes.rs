//! Nodes: pages of them, one of them, and what can be done to one.

use axum::Json;
use axum::extract::{Path, State as Extracted};
use serde::Deserialize;

use super::model;
use super::routes::{Asked, Problem, State, link_name};
use crate::clock::Clock;
use crate::gateway::{NodeSummary, Peer, Settings};
use crate::session::Status;

/// Nodes answered at once.
const LIMIT_MAX: usize = 1000;
/// More nodes than there can be.
const OFFSET_MAX: usize = 1_000_000;

/// Which nodes, in which order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListAsked {
    #[serde(default)]
    offset: usize,
    #[serde(default = "default_limit")]
    limit: usize,
    /// Part of the client id or of the address.
    #[serde(default)]
    q: String,
    state: Option<String>,
    link: Option<String>,
    sort: Option<String>,
    #[serde(default)]
    order: Order,
}

const fn default_limit() -> usize {
    100
}

#[derive(Clone, Copy, Debug)]
enum Sort {
    ClientId,
    State,
    Since,
    LastHeard,
    Due,
    Queued,
    Received,
    Sent,
    Retries,
    Rejections,
    Signal,
}

const SORTS: [(&str, Sort); 11] = [
    ("client_id", Sort::ClientId),
    ("state", Sort::State),
    ("since", Sort::Since),
    ("last_heard", Sort::LastHeard),
    ("due", Sort::Due),
    ("queued", Sort::Queued),
    ("received", Sort::Received),
    ("sent", Sort::Sent),
    ("retries", Sort::Retries),
    ("rejections", Sort::Rejections),
    ("signal", Sort::Signal),
];

/// Returns what a list of nodes can be ordered by.
pub fn sort_keys() -> impl Iterator<Item = &'static str> {
    SORTS.into_iter().map(|(name, _)| name)
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Asc,
    Desc,
}

pub(super) async fn list(
    Extracted(state): Extracted<State>,
    Asked(asked): Asked<ListAsked>,
) -> Result<Json<model::Nodes>, Problem> {
    if !(1..=LIMIT_MAX).contains(&asked.limit) || asked.offset > OFFSET_MAX {
        let bounds = format!("limit: 1 to {LIMIT_MAX}, offset: 0 to {OFFSET_MAX}");
        return Err(Problem::bad_request(bounds));
    }
    let wanted = match &asked.state {
        None => None,
        Some(name) => {
            let status = Status::ALL.into_iter().find(|status| status.name() == name);
            let names = Status::ALL.map(Status::name).join(", ");
            Some(status.ok_or_else(|| Problem::bad_request(format!("state: one of {names}")))?)
        }
    };
    let sort = match &asked.sort {
        None => Sort::ClientId,
        Some(key) => {
            let known = SORTS.into_iter().find(|(name, _)| name == key);
            let names = || sort_keys().collect::<Vec<_>>().join(", ");
            let known =
                known.ok_or_else(|| Problem::bad_request(format!("sort: one of {}", names())))?;
            known.1
        }
    };
    let (total, mut nodes, now) = state
        .ask(move |owner| {
            let gateway = &*owner.gateway;
            let nodes = gateway.nodes();
            let nodes = nodes.filter(|node| wanted.is_none_or(|status| node.status == status));
            let nodes: Vec<_> = nodes.collect();
            (gateway.sessions(), nodes, owner.now)
        })
        .await?;
    let settings = &state.surroundings().config.settings;
    // From here on it costs this thread, not the gateway.
    nodes.retain(|node| asked.wants(node, settings));
    let matched = nodes.len();
    asked.sort(sort, &mut nodes);
    let clock = Clock::now();
    let shown = nodes.iter().skip(asked.offset);
    Ok(Json(model::Nodes {
        now: clock.unix(now),
        total,
        matched,
        offset: asked.offset,
        nodes: shown
            .map(|node| model::Node::new(node, settings, &clock))
            .collect(),
    }))
}

impl ListAsked {
    fn wants(&self, node: &NodeSummary, settings: &Settings) -> bool {
        let on_link = |name: &String| link_name(settings, usize::from(node.link.0)) == *name;
        if !self.link.as_ref().is_none_or(on_link) {
            return false;
        }
        let at = |peer: &Peer| peer.to_string().contains(&self.q);
        self.q.is_empty() || node.client_id.contains(&self.q) || node.peer.as_ref().is_some_and(at)
    }

    /// Keeps what is on this page and those before, in order.
    fn sort(&self, by: Sort, nodes: &mut Vec<NodeSummary>) {
        let compare = |a: &NodeSummary, b: &NodeSummary| {
            let by_id = || a.client_id.cmp(&b.client_id);
            let ordering = match by {
                Sort::ClientId => by_id(),
                Sort::State => a.status.cmp(&b.status),
                Sort::Since => a.since.cmp(&b.since),
                Sort::LastHeard => a.last_heard.cmp(&b.last_heard),
                // Who is never due comes last.
                Sort::Due => (a.due.is_none(), a.due).cmp(&(b.due.is_none(), b.due)),
                Sort::Queued => a.queued.cmp(&b.queued),
                Sort::Received => a.received.cmp(&b.received),
                Sort::Sent => a.sent.cmp(&b.sent),
                Sort::Retries => a.retries.cmp(&b.retries),
                Sort::Rejections => a.rejections.cmp(&b.rejections),
                Sort::Signal => a.signal.cmp(&b.signal),
            };
            let ordering = match self.order {
                Order::Asc => ordering,
                Order::Desc => ordering.reverse(),
            };
            ordering.then_with(by_id)
        };
        let end = self.offset + self.limit;
        if end < nodes.len() {
            nodes.select_nth_unstable_by(end, compare);
            nodes.truncate(end);
        }
        nodes.sort_unstable_by(compare);
    }
}

pub(super) async fn show(
    Extracted(state): Extracted<State>,
    Path(client_id): Path<String>,
) -> Result<Json<model::NodeDetail>, Problem> {
    let id = client_id.clone();
    let answer = state.ask(move |owner| {
        let view = owner.gateway.node(&id)?;
        Some((view, owner.now))
    });
    let Some((view, now)) = answer.await? else {
        return Err(Problem::no_such_node(&client_id));
    };
    let settings = &state.surroundings().config.settings;
    let clock = Clock::now();
    let now = clock.unix(now);
    Ok(Json(model::NodeDetail::new(&view, settings, &clock, now)))
}

pub(super) async fn kick(
    Extracted(state): Extracted<State>,
    Path(client_id): Path<String>,
) -> Result<Json<model::Done>, Problem> {
    let id = client_id.clone();
    let known = state.ask(move |owner| owner.gateway.kick(owner.now, &id));
    done(known.await?, &client_id, "disconnected")
}

pub(super) async fn forget(
    Extracted(state): Extracted<State>,
    Path(client_id): Path<String>,
) -> Result<Json<model::Done>, Problem> {
    let id = client_id.clone();
    let known = state.ask(move |owner| owner.gateway.forget(owner.now, &id));
    done(known.await?, &client_id, "forgotten")
}

fn done(known: bool, client_id: &str, what: &str) -> Result<Json<model::Done>, Problem> {
    if !known {
        return Err(Problem::no_such_node(client_id));
    }
    let done = format!("{client_id} is {what}");
    Ok(Json(model::Done { done }))
}
