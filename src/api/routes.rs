//! Which path is answered by what.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{
    DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State as Extracted,
};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::events::Hub;
use super::{Surroundings, access, capture, events, explain, metrics, model, nodes, page};
use crate::clock::Clock;
use crate::config::nearest;
use crate::daemon::{Ended, Owner, ask};
use crate::gateway::{Happening, Settings};
use crate::session::Status;

/// Largest body of a request, in octets.
const BODY_MAX: usize = 16 * 1024;
/// Longest time the door may be open, in seconds.
const PERMIT_MAX: f64 = 24.0 * 3600.0;
/// Topics answered at once.
const TOPICS_MAX: usize = 1000;

/// What every handler shares.
#[derive(Clone)]
pub(super) struct State(Arc<Inner>);

struct Inner {
    surroundings: Surroundings,
    token: Option<Arc<str>>,
    started: f64,
    hub: Hub,
}

impl State {
    pub(super) fn new(surroundings: Surroundings, token: Option<Arc<str>>) -> Self {
        let links = &surroundings.config.settings.links;
        let links = links.iter().map(|link| link.name.clone()).collect();
        let hub = Hub::new(surroundings.orders.clone(), links);
        Self(Arc::new(Inner {
            surroundings,
            token,
            started: Clock::now().unix(Clock::now().instant()),
            hub,
        }))
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.0.token.as_deref()
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.0.surroundings
    }

    /// Asks the task that owns the core.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Owner<'_>) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(ask(&self.0.surroundings.orders, question).await?)
    }
}

/// An answer that is no success: what was wrong, in words.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: String,
}

impl Problem {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let error = error.into();
        Self { status, error }
    }

    pub(super) fn forbidden(error: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    pub(super) fn unauthorized() -> Self {
        let error =
            "this needs the token: Authorization: Bearer TOKEN (http.token in gateway.yaml)";
        Self::new(StatusCode::UNAUTHORIZED, error)
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn no_such_node(client_id: &str) -> Self {
        let error = format!("no node {client_id:?} is known; try explain");
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn no_such_link(name: &str, settings: &Settings) -> Self {
        let names: Vec<_> = settings.links.iter().map(|link| &*link.name).collect();
        let error = format!("no link {name:?}; there are: {}", names.join(", "));
        Self::bad_request(error)
    }

    pub(super) fn no_such_type(name: &str) -> Self {
        let rest = match nearest(name, Happening::kinds()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => Happening::kinds().collect::<Vec<_>>().join(", "),
        };
        Self::bad_request(format!("no packet type or state {name:?}: {rest}"))
    }

    pub(super) fn no_such_direction() -> Self {
        Self::bad_request("direction: one of in, out (the node's side), up, down (the broker's)")
    }

    pub(super) fn too_many_listeners() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too many listeners")
    }
}

impl From<Ended> for Problem {
    fn from(ended: Ended) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ended.to_string())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        let body = Body { error: self.error };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// The query of a request; what is wrong with it is told as JSON.
pub(super) struct Asked<T>(pub(super) T);

/// The JSON body of a request; what is wrong with it is told as JSON.
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequestParts<State> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Query(asked) = Query::from_request_parts(parts, state).await?;
        Ok(Self(asked))
    }
}

impl<T: DeserializeOwned> FromRequest<State> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

pub(super) fn router(state: State) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .route("/health", get(health))
        .route("/metrics", get(metrics::metrics))
        .route("/api/openapi.json", get(page::openapi))
        .route("/api/gateway", get(gateway))
        .route("/api/links", get(links))
        .route("/api/nodes", get(nodes::list))
        .route("/api/nodes/{id}", get(nodes::show))
        .route("/api/nodes/{id}/explain", get(explain::explain))
        .route("/api/nodes/{id}/kick", post(nodes::kick))
        .route("/api/nodes/{id}/forget", post(nodes::forget))
        .route("/api/topics", get(topics))
        .route("/api/events", get(events::events))
        .route("/api/capture.pcap", get(capture::capture))
        .route("/api/permit", post(permit))
        .route("/api/log", post(log))
        .route("/api/reload", post(reload))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not by this method")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        .with_state(state)
}

async fn gateway(Extracted(state): Extracted<State>) -> Result<Json<model::Gateway>, Problem> {
    let inner = state.0.clone();
    let listeners = inner.hub.listeners();
    let answer = state.ask(move |owner| {
        let gateway = &*owner.gateway;
        let clock = Clock::now();
        let settings = gateway.settings();
        let by_status = gateway.nodes_by_status();
        let broker = gateway.broker();
        let allow = settings.allowed_clients.as_ref();
        let link_name = |link: usize| link_name(settings, link);
        model::Gateway {
            now: clock.unix(owner.now),
            name: settings.name.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            gateway_id: settings.gateway_id,
            started: inner.started,
            broker: model::Broker {
                address: inner.surroundings.broker.clone(),
                up: broker.up,
                since: broker.since.map(|at| clock.unix(at)),
            },
            nodes: Status::ALL
                .into_iter()
                .map(|status| (status.name(), by_status[status as usize]))
                .collect(),
            nodes_total: gateway.sessions(),
            nodes_max: settings.limits.sessions,
            queued_bytes: gateway.queued_bytes(),
            uplink_queue: gateway
                .outbox()
                .map(|queue| model::UplinkQueue::new(&queue, &clock)),
            traffic: model::Traffic::new(gateway.stats()),
            latency: model::latencies(gateway.stats()),
            allow: allow.map(|patterns| patterns.iter().map(ToString::to_string).collect()),
            permit: permitted(owner, &clock),
            refused: gateway
                .refused()
                .rev()
                .map(|refused| model::Refused {
                    client_id: refused.client_id.to_string(),
                    address: refused.peer.to_string(),
                    link: link_name(usize::from(refused.peer.link.0)),
                    reason: refused.reason.words(),
                    at: clock.unix(refused.at),
                    times: refused.times,
                })
                .collect(),
            listeners,
            token_needed: inner.token.is_some(),
        }
    });
    Ok(Json(answer.await?))
}

/// Returns the name of a link, as gateway.yaml has it.
pub(super) fn link_name(settings: &Settings, index: usize) -> String {
    let link = settings.links.get(index);
    link.map_or_else(String::new, |link| link.name.to_string())
}

fn permitted(owner: &Owner<'_>, clock: &Clock) -> Option<model::Permit> {
    let (until, admitted) = owner.gateway.permitted()?;
    let mut list: Vec<String> = Vec::new();
    if let Some(allowed) = &owner.gateway.settings().allowed_clients {
        list.extend(
            allowed
                .iter()
                .map(|pattern| format!("{:?}", pattern.to_string())),
        );
    }
    list.extend(admitted.iter().map(|client_id| format!("{client_id:?}")));
    Some(model::Permit {
        until: clock.unix(until),
        admitted: admitted.iter().map(ToString::to_string).collect(),
        keep: (!admitted.is_empty()).then(|| format!("clients: {{allow: [{}]}}", list.join(", "))),
    })
}

async fn links(Extracted(state): Extracted<State>) -> Result<Json<model::Links>, Problem> {
    let answer = state.ask(|owner| model::Links::new(owner, &Clock::now()));
    Ok(Json(answer.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicsAsked {
    #[serde(default)]
    prefix: String,
}

async fn topics(
    Extracted(state): Extracted<State>,
    Asked(asked): Asked<TopicsAsked>,
) -> Result<Json<model::Topics>, Problem> {
    let found = state
        .ask(move |owner| owner.gateway.topics(&asked.prefix, TOPICS_MAX + 1))
        .await?;
    let complete = found.len() <= TOPICS_MAX;
    let topics = found.into_iter().take(TOPICS_MAX);
    Ok(Json(model::Topics {
        topics: topics
            .map(|(name, nodes)| model::TopicName {
                name: name.to_string(),
                nodes,
            })
            .collect(),
        complete,
    }))
}

async fn health(Extracted(state): Extracted<State>) -> (StatusCode, Json<model::Health>) {
    let asked = state.ask(|owner| {
        let clock = Clock::now();
        let mut reasons = Vec::new();
        let broker = owner.gateway.broker();
        if !broker.up {
            let since = broker.since.map(|at| clock.time_of_day(at));
            let since = since.map_or_else(String::new, |since| format!(" since {since}"));
            reasons.push(format!("the broker is not reached{since}"));
        }
        let settings = owner.gateway.settings();
        for (link, state) in settings.links.iter().zip(owner.links()) {
            if !state.up {
                reasons.push(format!("link {} is down", link.name));
            }
        }
        reasons
    });
    let reasons = match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(Ok(reasons)) => reasons,
        Ok(Err(problem)) => vec![problem.error],
        Err(_) => vec!["the gateway does not answer".to_owned()],
    };
    if reasons.is_empty() {
        let status = "ok";
        (StatusCode::OK, Json(model::Health { status, reasons }))
    } else {
        let status = "unavailable";
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(model::Health { status, reasons }),
        )
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PermitAsked {
    /// A whole number; JSON does not tell 120 from 120.0.
    seconds: f64,
}

async fn permit(
    Extracted(state): Extracted<State>,
    Body(asked): Body<PermitAsked>,
) -> Result<Json<model::Done>, Problem> {
    if !(0.0..=PERMIT_MAX).contains(&asked.seconds) || asked.seconds.fract() != 0.0 {
        let bounds = format!("seconds: a whole number from 0 to {PERMIT_MAX}");
        return Err(Problem::bad_request(bounds));
    }
    let seconds = asked.seconds as u64;
    let listed = state.ask(move |owner| {
        owner
            .gateway
            .permit(owner.now, Duration::from_secs(seconds));
        owner.gateway.settings().allowed_clients.is_some()
    });
    let done = match (listed.await?, seconds) {
        (_, 0) => "only listed clients may connect again".to_owned(),
        (true, _) => format!("any client may connect for {seconds} s"),
        (false, _) => "any client may connect anyway (clients.allow: any)".to_owned(),
    };
    tracing::info!(seconds, "permit");
    Ok(Json(model::Done { done }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogAsked {
    level: String,
}

async fn log(
    Extracted(state): Extracted<State>,
    Body(asked): Body<LogAsked>,
) -> Result<Json<model::Done>, Problem> {
    let log = &state.surroundings().reload.log;
    log.set_level(&asked.level).map_err(Problem::bad_request)?;
    let done = format!("log level {} until the next reload", asked.level);
    Ok(Json(model::Done { done }))
}

async fn reload(Extracted(state): Extracted<State>) -> Result<Json<model::Done>, Problem> {
    let reloaded = state.surroundings().reload.run().await;
    reloaded.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let done = "configuration read again; the log says what waits for the next start".to_owned();
    Ok(Json(model::Done { done }))
}
