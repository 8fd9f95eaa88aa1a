//! `[email]` → the e-mail channel. Absent on purpose: SMTP and the message's form (the plugin's), templates (`render`).

use super::ChannelHandle;
use crate::{
    config::{Config, email::Email as Section},
    dev::mailbox::Mailbox,
};
use anyhow::Context;
use campanile_email::{DkimSettings, Email, Outbox, Settings};
use campanile_model::ChannelName;
use campanile_plugin::{Channel, Problem, Secret};
use std::{fs, sync::Arc};

/// The channel's own check of its section: every problem, by key below `email.`.
pub fn prepare(s: &Section) -> Result<campanile_email::Config, Vec<Problem>> {
    let mut unreadable = None;
    let dkim = s.dkim_selector.clone().zip(s.dkim_key_file.as_ref()).map(|(selector, file)| {
        let key = fs::read_to_string(file).unwrap_or_else(|e| {
            let message = format!("{} can't be read: {e}", file.display());
            unreadable = Some(Problem { key: "dkim_key_file".into(), message });
            String::new()
        });
        DkimSettings { selector, domain: s.dkim_domain.clone(), key: Secret::new(key) }
    });
    if let Some(problem) = unreadable {
        return Err(vec![problem]);
    }
    campanile_email::Config::new(Settings {
        url: s.url.clone(),
        from: s.from.clone(),
        reply_to: s.reply_to.clone(),
        hello_name: s.hello_name.clone(),
        connect_timeout: *s.connect_timeout,
        command_timeout: *s.command_timeout,
        data_timeout: *s.data_timeout,
        dot_timeout: *s.dot_timeout,
        max_connections: s.max_connections,
        dkim,
    })
}

/// `None` when mail is neither configured nor caught: the channel is known but disabled.
pub async fn open(config: &Config, mailbox: Option<Arc<Mailbox>>) -> anyhow::Result<Option<ChannelHandle>> {
    let section = &config.email;
    if section.url.is_empty() && mailbox.is_none() {
        return Ok(None);
    }
    let prepared = prepare(section).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(|p| format!("email.{}: {}", p.key, p.message)).collect();
        anyhow::anyhow!(lines.join("\n"))
    })?;
    let outbox = mailbox.map(|m| m as Arc<dyn Outbox>);
    let email = Email::start(prepared, outbox).await.context("starting the e-mail channel")?;
    Ok(Some(ChannelHandle {
        name: ChannelName::email(),
        enabled: true,
        in_app: false,
        concurrency: section.concurrency,
        timeout: *section.timeout,
        channel: Some(Arc::new(email)),
    }))
}
