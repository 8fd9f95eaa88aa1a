//! Every call of `/api/v1`, as an application and as an end user.

mod accept;
mod audience;
mod batch;
mod cancel;
mod cors;
mod errors;
mod idempotency;
mod limits;
mod me;
mod terms;
mod users;
mod validation;
