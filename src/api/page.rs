//! The page and what it is made of, all inside the program.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

const INDEX: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const OPENAPI: &str = include_str!("openapi.json");

/// The page's scripts, by name.
const SCRIPTS: [(&str, &str); 4] = [
    ("app.js", include_str!("page/app.js")),
    ("charts.js", include_str!("page/charts.js")),
    ("dom.js", include_str!("page/dom.js")),
    ("packets.js", include_str!("page/packets.js")),
];

pub(super) async fn index() -> Response {
    text("text/html; charset=utf-8", INDEX)
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    if name == "style.css" {
        return text("text/css; charset=utf-8", STYLE);
    }
    match SCRIPTS.iter().find(|(script, _)| *script == name) {
        Some((_, content)) => text("text/javascript; charset=utf-8", content),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(super) async fn openapi() -> Response {
    text("application/json", OPENAPI)
}

fn text(content_type: &'static str, content: &'static str) -> Response {
    // A new version of the program is a new version of the page.
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}
