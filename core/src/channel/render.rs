//! Host-side rendering of what a channel sends: subject, text and HTML from templates, and the message as JSON.
//!
//! Payloads are data, never templates: `{{ 7*7 }}` and `<script>` in them come out as text. Every render runs within
//! bounds of fuel, depth and output. Absent on purpose: reading files while serving (all templates are compiled at
//! start), templates from the API.

mod templates;
mod unsubscribe;

pub use unsubscribe::UnsubscribeLinks;

use crate::{
    config::Config,
    observe::{Metrics, metrics as m},
};
use campanile_model::{ChannelName, clock::rfc3339, work::Claimed};
use campanile_plugin::Secret;
use serde_json::{Map, Value, json};
use std::{collections::HashSet, net::SocketAddr, path::Path, sync::Arc, time::Instant};
use templates::{Part, Templates};

/// What a channel's [`campanile_plugin::Delivery`] borrows from.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    pub subject: String,
    pub text: String,
    pub html: String,
    pub message: Value,
    /// Which template it was and which version of it.
    pub template: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("template {template}: {message}")]
pub struct RenderError {
    pub template: String,
    pub message: String,
}

pub struct Renderer {
    templates: Templates,
    transactional: HashSet<String>,
    links: UnsubscribeLinks,
    metrics: Arc<Metrics>,
}

/// Whether every template compiles; touches nothing else.
pub fn check_templates(dir: Option<&Path>) -> anyhow::Result<()> {
    Templates::load(dir).map(|_| ())
}

impl Renderer {
    /// Compiles every template; a broken one is an error at start. `address` is where we listen: links in mails lead
    /// there while `server.public_url` is not set. `secret` proves that links are ours, on whichever node one is followed.
    pub fn new(
        config: &Config,
        address: SocketAddr,
        secret: &Secret,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            templates: Templates::load(config.email.templates_dir.as_deref())?,
            transactional: config.email.transactional.iter().cloned().collect(),
            links: UnsubscribeLinks::new(secret, config.server.public_url.as_deref(), address),
            metrics,
        }))
    }

    pub fn render(&self, claimed: &Claimed) -> Result<Rendered, RenderError> {
        let started = Instant::now();
        let channel = claimed.channel.as_str();
        let rendered = self.parts(claimed);
        self.metrics
            .render_duration
            .get_or_create(&m::ByChannel::new(channel))
            .observe(started.elapsed().as_secs_f64());
        if rendered.is_err() {
            self.metrics.render_errors.get_or_create(&m::ByChannel::new(channel)).inc();
        }
        rendered
    }

    /// For links back from mails.
    pub fn unsubscribe_links(&self) -> &UnsubscribeLinks {
        &self.links
    }

    /// The page behind such a link. `step`: `ask`, `done` or `unknown`.
    pub fn unsubscribe_page(&self, step: &str, notification_type: &str) -> Result<String, RenderError> {
        self.templates.unsubscribe(&json!({"step": step, "notification_type": notification_type}))
    }

    fn parts(&self, claimed: &Claimed) -> Result<Rendered, RenderError> {
        let mut message = message(claimed);
        if claimed.channel != ChannelName::email() {
            // Only mail has templates so far; other channels take the plain words.
            let content = &claimed.notification.content;
            let (subject, text) = (content.title.clone(), content.message.clone());
            let message = Value::Object(message);
            return Ok(Rendered { subject, text, message, ..Rendered::default() });
        }
        let kind = claimed.notification.content.notification_type.clone();
        if !self.transactional.contains(&kind) {
            message.insert("unsubscribe_url".into(), self.links.url(claimed.delivery_id).into());
        }
        let mut context = message.clone();
        context.insert("delivery_id".into(), claimed.delivery_id.to_string().into());
        let context = minijinja::Value::from(minijinja::value::Serde(&context));
        let part = |part| self.templates.render(&kind, part, &context);
        Ok(Rendered {
            subject: one_line(&part(Part::Subject)?),
            text: part(Part::Text)?,
            html: part(Part::Html)?,
            message: Value::Object(message),
            template: self.templates.called(&kind).map(str::to_owned),
        })
    }
}

/// The notification as channels get it (`campanile_plugin::Delivery::message`).
fn message(claimed: &Claimed) -> Map<String, Value> {
    let n = &claimed.notification;
    let Value::Object(map) = json!({
        "notification_id": n.id,
        "app": n.app,
        "user_id": claimed.user.user,
        "title": n.content.title,
        "message": n.content.message,
        "notification_type": n.content.notification_type,
        "timestamp": rfc3339(n.created_at),
        "data": n.content.data,
        "priority": n.priority,
        "locale": claimed.locale,
    }) else {
        unreachable!("an object literal is an object")
    };
    map
}

fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
