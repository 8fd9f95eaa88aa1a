//! What an operator wishes for: one instance, from the configuration file or from a row.

use super::{code::Code, runner::Allowance, setup::secrets::Trust};
use crate::config::Config;
use campanile_model::{
    ChannelName,
    ports::{InstanceLimits, InstanceRow, InstanceSetup},
};
use campanile_plugin::wire::Description;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest name of an instance, and of a channel that one makes.
const NAME_MAX: usize = 64;
/// The longest that one delivery may take.
pub const TIMEOUT_MAX: Duration = Duration::from_mins(5);
/// The most deliveries that an instance may have under way on one node.
pub const CONCURRENCY_MAX: u32 = 1_000;

/// Who made an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It belongs to the host.
    Host,
    /// The configuration file: it can be changed only there.
    File,
    /// The API or the console.
    Database,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub name: String,
    pub channel: ChannelName,
    pub plugin: String,
    pub origin: Origin,
    pub setup: InstanceSetup,
    /// Of the row; 0 for one without.
    pub version: u64,
    /// Completed by the store itself.
    pub in_app: bool,
}

impl Spec {
    pub fn trust(&self) -> Trust {
        if self.origin == Origin::Database { Trust::Managed } else { Trust::File }
    }

    /// The limits in force: the operator's within the plugin's.
    pub fn allowance(&self, code: &dyn Code) -> Allowance {
        allowance(&self.setup.limits, code.description())
    }
}

pub fn allowance(limits: &InstanceLimits, description: &Description) -> Allowance {
    let most = description.max_concurrency.clamp(1, CONCURRENCY_MAX as usize);
    let longest = Duration::from_millis(description.timeout_ms).clamp(Duration::from_millis(1), TIMEOUT_MAX);
    Allowance {
        concurrency: limits.concurrency.map_or(most, |n| (n as usize).clamp(1, CONCURRENCY_MAX as usize)),
        timeout: limits.timeout_ms.map_or(longest, |ms| Duration::from_millis(ms.max(1)).min(TIMEOUT_MAX)),
        rate: limits.rate,
    }
}

impl From<InstanceRow> for Spec {
    fn from(row: InstanceRow) -> Self {
        Self {
            name: row.name,
            channel: row.channel,
            plugin: row.plugin,
            origin: Origin::Database,
            setup: row.setup,
            version: row.version,
            in_app: false,
        }
    }
}

/// Says what is wrong with a name of an instance or a channel.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if first && rest && name.len() <= NAME_MAX {
        Ok(())
    } else {
        Err("must begin with a small letter and hold only small letters, digits, _ and -, at most 64")
    }
}

/// Says what is wrong with limits, by key.
pub fn check_limits(limits: &InstanceLimits) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    if limits.rate.is_some_and(|rate| !(1..=1_000_000).contains(&rate.limit)) {
        wrong.push(("rate", "must allow 1 to 1000000".to_owned()));
    }
    if limits.concurrency.is_some_and(|n| !(1..=CONCURRENCY_MAX).contains(&n)) {
        wrong.push(("concurrency", format!("must be 1 to {CONCURRENCY_MAX}")));
    }
    let longest = TIMEOUT_MAX.as_millis() as u64;
    if limits.timeout_ms.is_some_and(|ms| !(1..=longest).contains(&ms)) {
        wrong.push(("timeout_ms", format!("must be 1 to {longest}")));
    }
    wrong
}

/// The host's own: pushes to sockets.
pub fn websocket() -> Spec {
    Spec {
        name: "websocket".to_owned(),
        channel: ChannelName::websocket(),
        plugin: "websocket".to_owned(),
        origin: Origin::Host,
        // The store finishes in-app deliveries itself, a batch at a time.
        setup: InstanceSetup {
            enabled: true,
            config: json!({}),
            limits: InstanceLimits { rate: None, concurrency: Some(1), timeout_ms: Some(5_000) },
        },
        version: 0,
        in_app: true,
    }
}

/// `[email]`, and `[[instances]]` in the order of the file.
pub fn of_file(config: &Config, mail_is_caught: bool) -> Vec<Spec> {
    let declared = config.instances.iter().map(|i| Spec {
        name: i.name.clone(),
        channel: ChannelName::from(i.channel.as_deref().unwrap_or(&i.plugin)),
        plugin: i.plugin.clone(),
        origin: Origin::File,
        setup: InstanceSetup {
            enabled: i.enabled,
            config: i.config.clone(),
            limits: InstanceLimits {
                rate: i.rate,
                concurrency: i.concurrency,
                timeout_ms: i.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            },
        },
        version: 0,
        in_app: false,
    });
    std::iter::once(email(config, mail_is_caught)).chain(declared).collect()
}

/// Off when mail is neither configured nor caught: the channel is known all the same.
fn email(config: &Config, mail_is_caught: bool) -> Spec {
    let section = &config.email;
    let setup = InstanceSetup {
        enabled: !section.url.is_empty() || mail_is_caught,
        config: super::email::settings_json(section).unwrap_or(Value::Null),
        limits: InstanceLimits {
            rate: None,
            concurrency: u32::try_from(section.concurrency).ok(),
            timeout_ms: u64::try_from(section.timeout.as_millis()).ok(),
        },
    };
    Spec {
        name: "email".to_owned(),
        channel: ChannelName::email(),
        plugin: "email".to_owned(),
        origin: Origin::File,
        setup,
        version: 0,
        in_app: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_that_fit_everywhere() {
        for good in ["a", "relay-2", "my_sms", &"a".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "a b", "a/b", "ä", "-a", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
