//! How fast an instance may send, by how many workers, and how long one delivery may take. A change holds at once: nothing
//! is restarted, and it is a version like any other.

use super::{
    super::{
        Signed,
        answer::{Posted, done_elsewhere},
    },
    config::{Shown, redraw},
    one,
};
use crate::{
    channel::manage::{ChangedInstance, InstanceDetail, NotDone},
    http::problem::{ApiError, ApiResult},
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{format, pages::channel as ui, pieces::Toast};
use campanile_model::ports::{InstanceLimits, Per, Rate};
use std::sync::Arc;

const PER: [(&str, Per); 3] = [("second", Per::Second), ("minute", Per::Minute), ("hour", Per::Hour)];

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

/// As they are.
pub fn form(detail: &InstanceDetail) -> ui::Limits {
    let limits = &detail.limits;
    let per = limits.rate.and_then(|rate| PER.into_iter().find(|(_, per)| *per == rate.per));
    let view = &detail.view;
    let mut now = vec![format!("{} under way of {}", view.busy, view.concurrency)];
    if let Some(rate) = &view.rate {
        now.push(format!("{} /s on this node", format::rate(rate.effective_per_second)));
    }
    ui::Limits {
        rate: text(limits.rate.map(|r| r.limit)),
        per: per.map_or("second", |(word, _)| word).to_owned(),
        workers: text(limits.concurrency),
        timeout_s: text(limits.timeout_ms.map(|ms| ms as f64 / 1_000.0)),
        now: now.join(", "),
        problems: Vec::new(),
    }
}

/// What was typed; its complaints name the field.
fn read(typed: &ui::Limits) -> Result<InstanceLimits, Vec<String>> {
    let mut problems = Vec::new();
    let mut whole = |name: &str, text: &str| -> Option<u32> {
        if text.is_empty() {
            return None;
        }
        let read = text.parse().ok();
        if read.is_none() {
            problems.push(format!("{name}: must be a whole number, or empty."));
        }
        read
    };
    let rate = whole("Deliveries at most", &typed.rate);
    let workers = whole("Workers", &typed.workers);
    let timeout_ms = match typed.timeout_s.parse::<f64>() {
        _ if typed.timeout_s.is_empty() => None,
        // Past what is allowed it is refused by the host's own check.
        Ok(s) if s.is_finite() && s > 0.0 && s < 1e9 => Some((s * 1_000.0).round() as u64),
        _ => {
            problems.push("Longest delivery: must be a number of seconds, or empty.".to_owned());
            None
        }
    };
    let per = PER.into_iter().find(|(word, _)| *word == typed.per).map_or(Per::Second, |(_, per)| per);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(InstanceLimits { rate: rate.map(|limit| Rate { limit, per }), concurrency: workers, timeout_ms })
}

pub async fn post(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (instance, _) = one::back(&s, &name)?;
    let detail = s.keeper.instance(&name).await?;
    if detail.view.version.is_none() {
        return Err(NotDone::ReadOnly(name).into());
    }
    let typed = ui::Limits {
        rate: posted.get("rate").to_owned(),
        per: posted.get("per").to_owned(),
        workers: posted.get("workers").to_owned(),
        timeout_s: posted.get("timeout_s").to_owned(),
        ..form(&detail)
    };
    let wrong =
        |problems: Vec<String>| Shown { limits: Some(ui::Limits { problems, ..typed.clone() }), ..Shown::default() };
    let limits = match read(&typed) {
        Ok(limits) => limits,
        Err(problems) => return redraw(&s, &signed, &headers, &instance, wrong(problems)).await,
    };
    let version = posted.get("version").parse().ok().or(detail.view.version);
    let to = ChangedInstance { version, enabled: detail.view.enabled, config: detail.config, limits };
    match s.keeper.change(&name, to, &signed.actor).await {
        Ok(_) => {
            let toast = Toast::ok(format!("The limits of {name} hold now."));
            Ok(done_elsewhere(&s, &signed, &headers, &one::config_of(&instance), toast))
        }
        Err(NotDone::Invalid(faults)) => {
            let problems = faults.into_iter().map(|w| format!("{}: {}.", field(&w.field), w.message)).collect();
            redraw(&s, &signed, &headers, &instance, wrong(problems)).await
        }
        Err(NotDone::Stale(now)) => {
            let why = format!("Somebody else has changed it: version {now} is in force. Look at the limits again.");
            redraw(&s, &signed, &headers, &instance, wrong(vec![why])).await
        }
        Err(e) => Err(ApiError::from(e)),
    }
}

/// A field of the host → a field of the form.
fn field(name: &str) -> &str {
    match name {
        "limits.rate" => "Deliveries at most",
        "limits.concurrency" => "Workers",
        "limits.timeout_ms" => "Longest delivery, in ms",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_to_the_plugin_and_what_is_wrong_is_named() {
        assert_eq!(read(&ui::Limits::default()), Ok(InstanceLimits::default()));
        let typed = ui::Limits {
            rate: "30".into(),
            per: "minute".into(),
            workers: "2".into(),
            timeout_s: "1.5".into(),
            ..ui::Limits::default()
        };
        let limits = read(&typed).unwrap();
        assert_eq!(limits.rate, Some(Rate { limit: 30, per: Per::Minute }));
        assert_eq!((limits.concurrency, limits.timeout_ms), (Some(2), Some(1_500)));
        let typed = ui::Limits { rate: "-1".into(), workers: "2.5".into(), timeout_s: "inf".into(), ..typed };
        let problems = read(&typed).unwrap_err();
        assert_eq!(problems.len(), 3);
        assert!(problems[0].starts_with("Deliveries at most:") && problems[2].starts_with("Longest delivery:"));
    }
}
