//! Looks at what a server needs, from its configuration: each finding with what to do where something is wrong.
//!
//! For `campanile doctor`, and for the console's look at the mail domain. It changes nothing: no file is made, no migration
//! applied, no mail sent.

pub mod broker;
pub mod bus;
pub mod database;
mod dns;
pub mod instances;
pub mod machine;
pub mod mail;
pub mod plugins;
mod postgres;
pub mod shape;

use crate::channel::render::check_templates;
use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    Look,
    Wrong,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub verdict: Verdict,
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Finding {
    pub fn good(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Good, text: text.into(), fix: None }
    }
    pub fn look(what: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Look, text: text.into(), fix: Some(fix.into()) }
    }
    pub fn wrong(what: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Wrong, text: text.into(), fix: Some(fix.into()) }
    }
}

pub fn templates(config: &crate::config::Config) -> Finding {
    match check_templates(config.email.templates_dir.as_deref()) {
        Ok(()) => match &config.email.templates_dir {
            Some(dir) => Finding::good("templates", dir.display().to_string()),
            None => Finding::good("templates", "built in"),
        },
        Err(e) => Finding::wrong(
            "templates",
            format!("{e:#}"),
            "correct the template; email.templates_dir says where they are",
        ),
    }
}
