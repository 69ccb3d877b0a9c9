//! Who may do what: looking is free, changing needs the token if there is one.
//!
//! Without a token the interface listens to this machine only. A browser on it may still be steered by
//! a foreign page, so a request that changes something has to come from this page or from no page, and
//! every request has to name the machine by address or as `localhost` (else a foreign name that
//! resolves to this machine would make the page a foreign one's own).

use std::net::IpAddr;

use axum::extract::{Request, State as Extracted};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::routes::{Problem, State};

/// Lets a request through or answers it.
pub(super) async fn check(
    Extracted(state): Extracted<State>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if state.token().is_none() && !is_named_locally(headers) {
        return Problem::forbidden("call this machine by its address or as localhost")
            .into_response();
    }
    if changes && !is_from_here(headers) {
        return Problem::forbidden("a page of another origin may not do this").into_response();
    }
    if changes
        && let Some(token) = state.token()
        && !carries(headers, token)
    {
        return Problem::unauthorized().into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn is_named_locally(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else {
        // HTTP/1.0 without a name cannot come from a browser.
        return true;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_from_here(headers: &HeaderMap) -> bool {
    let Some(origin) = text(headers, header::ORIGIN) else {
        return !headers.contains_key(header::ORIGIN);
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some() && authority == text(headers, header::HOST)
}

/// Compares without telling by its duration how much was right.
fn carries(headers: &HeaderMap, token: &str) -> bool {
    let given = text(headers, header::AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let differ = given
        .bytes()
        .zip(token.bytes())
        .fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == token.len() && differ == 0
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(entries: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        let entries = entries
            .iter()
            .map(|(name, value)| (name.clone(), header::HeaderValue::from_static(value)));
        entries.collect()
    }

    #[test]
    fn foreign_names_and_pages_are_told_apart() {
        for (host, local) in [
            ("localhost:8080", true),
            ("127.0.0.1", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(
                is_named_locally(&headers(&[(header::HOST, host)])),
                local,
                "{host}"
            );
        }
        for (origin, here) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.0.0.1:8081", false),
            ("http://evil.example", false),
            ("null", false),
        ] {
            let headers = headers(&[(header::HOST, "127.0.0.1:8080"), (header::ORIGIN, origin)]);
            assert_eq!(is_from_here(&headers), here, "{origin}");
        }
    }

    #[test]
    fn only_the_whole_token_will_do() {
        for (value, right) in [
            ("Bearer secret", true),
            ("Bearer secre", false),
            ("Bearer secrets", false),
            ("Bearer ", false),
            ("secret", false),
        ] {
            let headers = headers(&[(header::AUTHORIZATION, value)]);
            assert_eq!(carries(&headers, "secret"), right, "{value}");
        }
        assert!(!carries(&HeaderMap::new(), "secret"));
    }
}
