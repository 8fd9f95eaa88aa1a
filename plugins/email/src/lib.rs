//! The e-mail channel: one delivery, one mail, one recipient.
//!
//! Owns: addresses and the message's form (`address`, `message`, `dkim`), the SMTP dialogue and its pool (`wire`,
//! `dialogue`, `pool`), what a relay's reply means (`reply`). Absent on purpose: templates and retries (the host's),
//! bounces that arrive later, direct delivery to MX hosts.

mod address;
mod channel;
mod config;
mod dialogue;
mod dkim;
mod message;
mod pool;
mod relay;
pub mod reply;
mod tls;
mod wire;

pub use address::check_address;
pub use channel::{CaughtMail, Email, Outbox};
pub use config::{DkimSettings, Settings};
pub use dialogue::Phase;
