//! The OpenAPI 3.1 document, made from the same routes that serve.
//!
//! Handlers describe what is theirs; what all have in common (credentials, the shape of refusals) is added here.

use super::{App, api, problem::Problem};
use axum::{
    http::{StatusCode, header},
    routing::get,
};
use bytes::Bytes;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

/// An application's credential.
const API_KEY: &str = "api_key";
/// An end user's credential.
const TOKEN: &str = "token";
const TAGS: [(&str, &str); 4] = [
    ("notifications", "Say what happened, look where it went, take it back."),
    ("users", "People and their contact points."),
    ("me", "An end user's own feed, with their token."),
    ("operate", "What operators see and do. Scope `read` to look, `manage` to change."),
];

/// The document, without a running server.
pub fn openapi_document() -> OpenApi {
    complete(api::routes().into_openapi())
}

pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("Campanile")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Notifications for people: said once, delivered over WebSocket, by e-mail, or through any channel. \
             Times are RFC 3339 in UTC; ids are UUIDs; errors are problem+json with a stable `code`.",
        ))
        .build();
    document.servers = None;
    document.tags =
        Some(TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build()).to_vec());
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for (name, format, text) in [
        (API_KEY, "cmp_<id>_<secret>", "An application's API key, or the operator key."),
        (TOKEN, "JWT", "An end user's token; `sub` is the user id."),
    ] {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format).description(Some(text));
        components.security_schemes.insert(name.to_owned(), SecurityScheme::Http(scheme.build()).into());
    }
    for (path, item) in &mut document.paths.paths {
        let credential = if path.starts_with("/api/v1/me/") { TOKEN } else { API_KEY };
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            common(operation, credential);
        }
    }
    document
}

/// Refusals look the same everywhere, and every call needs its credential.
fn common(operation: &mut Operation, credential: &str) {
    let problem = ResponseBuilder::new()
        .description("A refusal; `code` says which.")
        .content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build(),
        )
        .build();
    for (status, response) in &mut operation.responses.responses {
        // The document needs one for each; where a handler has nothing to add, the status says it.
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let status = status.parse::<StatusCode>().ok().and_then(|s| s.canonical_reason());
            status.unwrap_or("An answer.").clone_into(&mut response.description);
        }
    }
    operation.responses.responses.entry("default".to_owned()).or_insert_with(|| problem.into());
    if operation.security.is_none() {
        operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(credential, [])]);
    }
}

pub(super) fn routes(document: OpenApi) -> App {
    // Made once: it never changes while the process runs.
    let text = serde_json::to_vec(&complete(document)).unwrap_or_default();
    let text = Bytes::from(text);
    App::new()
        .route("/api/openapi.json", get(move || async move { ([(header::CONTENT_TYPE, "application/json")], text) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn documented() -> BTreeSet<String> {
        openapi_document().paths.paths.into_keys().collect()
    }

    /// axum lists its routes only in its `Debug` form: `RouteId(3): "/api/v1/…"`.
    fn routed() -> BTreeSet<String> {
        let (router, _) = api::routes().split_for_parts();
        let text = format!("{router:?}");
        let paths = text.split('"').filter(|part| part.starts_with("/api/v1/") && !part.contains("__private"));
        paths.map(str::to_owned).collect()
    }

    #[test]
    fn every_route_is_documented_and_every_documented_path_is_a_route() {
        let routed = routed();
        assert!(routed.len() > 10, "axum's Debug form has changed: {routed:?}");
        assert_eq!(documented(), routed);
    }

    #[test]
    fn the_document_is_complete() {
        let value = serde_json::to_value(openapi_document()).unwrap();
        assert!(value["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut ids = BTreeSet::new();
        for (path, item) in value["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let what = format!("{method} {path}");
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}: operationId");
                let credential = if path.contains("/me/") { TOKEN } else { API_KEY };
                assert!(operation["security"][0][credential].is_array(), "{what}: {}", operation["security"]);
                assert!(operation["responses"]["default"].is_object(), "{what}");
                assert!(operation["summary"].is_string(), "{what}: summary");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    assert!(response["description"].as_str().is_some_and(|d| !d.is_empty()), "{what}: {status}");
                }
                let tag = operation["tags"][0].as_str().unwrap_or_default();
                assert!(TAGS.iter().any(|(t, _)| *t == tag), "{what}: tag {tag:?}");
                for part in path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')) {
                    let named = operation["parameters"].as_array().into_iter().flatten();
                    assert!(named.clone().any(|p| p["name"] == part && p["in"] == "path"), "{what}: {part}");
                }
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let value = serde_json::to_value(openapi_document()).unwrap();
        let text = value.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|t| t.split('"').next()) {
            assert!(value.pointer(reference).is_some(), "{reference}");
        }
    }
}
