//! The refusals calls of the application API may answer with, for the OpenAPI document.

use crate::http::problem::Problem;

/// Of calls with a body.
#[derive(utoipa::IntoResponses)]
pub enum Problems {
    /// The request can't be read: malformed JSON, with line and column.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// No credential, or an unknown one.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// An end user's token, or an API key without the scope.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// Somebody is at the same thing just now (a key still running, a recipient being erased): try again.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is larger than allowed.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(Problem),
    /// Not valid; `errors` names every field at fault.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// Too many requests from this key; see `Retry-After`.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// Overloaded or without a database; nothing was written, see `Retry-After`.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// Of calls without one.
#[derive(utoipa::IntoResponses)]
pub enum ReadProblems {
    /// No credential, or an unknown one.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// An end user's token, or an API key without the scope.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// Nothing of that id in this app.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// A parameter is not valid; `errors` names every one at fault.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// Too many requests from this key; see `Retry-After`.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// Without a database; see `Retry-After`.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}
