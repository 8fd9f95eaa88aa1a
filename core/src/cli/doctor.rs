//! `campanile doctor`: looks at everything a server needs, each with ✓ ! ✗ and, where something is wrong, what to do.
//!
//! It changes nothing: no file is made, no migration applied, no mail sent.

mod broker;
mod bus;
mod database;
mod dns;
mod instances;
mod machine;
mod mail;
mod plugins;
mod postgres;
mod shape;

use super::{
    Global,
    exit::{Code, Failure, Outcome},
    output::{Output, Tone},
    settings,
};
use crate::channel::render::check_templates;
use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    Look,
    Wrong,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
    /// What to do about it.
    fix: Option<String>,
}

impl Finding {
    fn good(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Good, text: text.into(), fix: None }
    }
    fn look(what: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Look, text: text.into(), fix: Some(fix.into()) }
    }
    fn wrong(what: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Wrong, text: text.into(), fix: Some(fix.into()) }
    }
}

pub async fn run(global: &Global, out: Output) -> Outcome {
    let mut all = Vec::new();
    let mut tell = |finding: Finding| {
        show(out, &finding);
        all.push(finding);
    };
    match settings::load(global, &[]) {
        Err(e) => tell(Finding::wrong("configuration", e.what, "campanile config check")),
        Ok(loaded) => {
            let from =
                loaded.file.as_ref().map_or_else(|| "defaults and environment".into(), |f| f.display().to_string());
            tell(Finding::good("configuration", from));
            let config = &loaded.config;
            tell(machine::data_dir(&config.server.data_dir));
            for finding in database::check(config).await {
                tell(finding);
            }
            for finding in broker::check(config).await {
                tell(finding);
            }
            for finding in bus::check(config).await {
                tell(finding);
            }
            tell(machine::clock(database::witness(config).await));
            tell(machine::port(&config.server.listen).await);
            tell(machine::file_limit());
            tell(machine::disk(&config.server.data_dir));
            tell(templates(config));
            for finding in mail::check(config).await {
                tell(finding);
            }
            for finding in instances::check(config).await {
                tell(finding);
            }
            for finding in plugins::check(config) {
                tell(finding);
            }
            for finding in shape::check(config) {
                tell(finding);
            }
        }
    }
    out.show(&all, |_| {});
    let wrong = all.iter().filter(|f| f.verdict == Verdict::Wrong).count();
    match wrong {
        0 => Ok(()),
        n => Err(Failure::new(Code::Unhealthy, format!("{n} of {} checks failed", all.len()))
            .next("do what stands under each ✗")),
    }
}

fn show(out: Output, finding: &Finding) {
    let (mark, tone) = match finding.verdict {
        Verdict::Good => ("✓", Tone::Good),
        Verdict::Look => ("!", Tone::Warn),
        Verdict::Wrong => ("✗", Tone::Bad),
    };
    out.line(format!(
        "{} {:<14} {}",
        out.paint(tone, mark),
        finding.what,
        finding.text.replace('\n', "\n                 ")
    ));
    if let Some(fix) = &finding.fix {
        out.line(format!("                 {} {fix}", out.paint(Tone::Dim, "→")));
    }
}

fn templates(config: &crate::config::Config) -> Finding {
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
