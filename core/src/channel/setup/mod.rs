//! What an instance is made from: its configuration, checked by the plugin's schema, with secrets by handle.
//!
//! The order is always: handles resolved → schema → the plugin's own check. Absent on purpose: rows and files (`instances`),
//! starting anything (`keeper`).

pub mod schema;
pub mod secrets;

use super::code::Code;
use campanile_plugin::Problem;
use futures_util::FutureExt;
use schema::Schema;
use secrets::{Trust, Vault, Veil};
use serde_json::Value;
use std::{panic::AssertUnwindSafe, time::Duration};

/// How long a plugin may take to say what it thinks of a configuration. The loader has a limit of its own.
const VALIDATE_LIMIT: Duration = Duration::from_secs(10);

/// A configuration that passed, with its secrets in it: for `start`, and for nothing else.
pub struct Ready {
    pub config: Value,
    /// Covers those secrets in whatever the plugin says.
    pub veil: Veil,
}

/// What is wrong with a configuration, and who said so.
#[derive(Clone, Debug)]
pub struct Refused {
    /// `schema`, `secrets` or `validate`.
    pub step: &'static str,
    pub problems: Vec<Problem>,
}

/// Checks a configuration as it is stored. `instance` is who it belongs to: what is sealed can be opened for it only.
pub async fn check(
    code: &dyn Code,
    vault: &Vault,
    trust: Trust,
    instance: &str,
    config: &Value,
) -> Result<Ready, Refused> {
    let refused = |step| move |problems| Refused { step, problems };
    let schema = Schema::of(code.description()).map_err(|e| vec![Problem::new("", e)]).map_err(refused("schema"))?;
    let config = vault.resolve(trust, instance, config).map_err(refused("secrets"))?;
    let veil = schema.veil(&config.value, config.resolved);
    let cover = |problems: Vec<Problem>| -> Vec<Problem> {
        problems.into_iter().map(|p| Problem { message: veil.over(p.message), ..p }).collect()
    };
    schema.check(&config.value).map_err(|p| refused("schema")(cover(p)))?;
    let validate = AssertUnwindSafe(code.validate(&config.value)).catch_unwind();
    let said = match tokio::time::timeout(VALIDATE_LIMIT, validate).await {
        Ok(Ok(said)) => said,
        Ok(Err(panic)) => {
            let said = super::runner::panic_text(panic.as_ref());
            Err(vec![Problem::new("", format!("the plugin panicked while it checked this: {said}"))])
        }
        Err(_) => Err(vec![Problem::new("", "the plugin gave no answer about this configuration in time")]),
    };
    said.map_err(|p| refused("validate")(cover(p)))?;
    Ok(Ready { config: config.value, veil })
}
