//! `[email]` → the e-mail channel. Absent on purpose: SMTP and the message's form (the plugin's), templates (`render`).

use super::{
    code::Code,
    linked::{Equip, Linked},
};
use crate::{
    config::email::Email as Section,
    dev::{faults::Faulty, mailbox::Mailbox},
    outbound::Outbound,
};
use campanile_email::{Email, Outbox};
use campanile_plugin::{DynChannel, Problem, Span, wire};
use serde_json::{Value, json};
use std::{fs, sync::Arc};

/// The channel's own check of its section: every problem, by key below `email.`.
pub fn check(s: &Section) -> Result<(), Vec<Problem>> {
    let config = settings_json(s)?;
    wire::config::<Email>(config.to_string().as_bytes()).map(drop)
}

/// The section as the channel's configuration, as an instance has it; also while it is not complete.
pub fn settings_json(s: &Section) -> Result<Value, Vec<Problem>> {
    let span = |time: &crate::config::Dur| Span(**time);
    let dkim = match (&s.dkim_selector, &s.dkim_key_file) {
        (Some(selector), Some(file)) => {
            let key = fs::read_to_string(file)
                .map_err(|e| vec![Problem::new("dkim_key_file", format!("{} can't be read: {e}", file.display()))])?;
            json!({"selector": selector, "domain": s.dkim_domain, "key": key})
        }
        _ => Value::Null,
    };
    Ok(json!({
        "url": s.url.expose(),
        "from": s.from,
        "reply_to": s.reply_to,
        "hello_name": s.hello_name,
        "connect_timeout": span(&s.connect_timeout),
        "command_timeout": span(&s.command_timeout),
        "data_timeout": span(&s.data_timeout),
        "dot_timeout": span(&s.dot_timeout),
        "max_connections": s.max_connections,
        "dkim": dkim,
    }))
}

/// The plugin as code. Where mail is caught, so is that of instances without a relay, and the switches of `/dev` stand
/// before it.
pub fn code(mailbox: Option<Arc<Mailbox>>, outbound: Arc<Outbound>) -> Arc<dyn Code> {
    let faults = mailbox.as_ref().map(|m| m.faults.clone());
    let equip: Equip = Box::new(move |context| match &mailbox {
        Some(mailbox) => context.with_native::<Arc<dyn Outbox>>(mailbox.clone()),
        None => context,
    });
    let behind = move |inner: Arc<dyn DynChannel>| -> Arc<dyn DynChannel> {
        match &faults {
            Some(faults) => Arc::new(Faulty { inner, faults: faults.clone() }),
            None => inner,
        }
    };
    Linked::<Email>::behind(equip, Box::new(behind), outbound)
}
