//! `[email]` → the e-mail channel. STUB.

use super::ChannelHandle;
use crate::{config::Config, dev::mailbox::Mailbox};
use std::sync::Arc;

/// `None` when mail is neither configured nor caught: the channel is known but disabled.
pub async fn open(_config: &Config, _mailbox: Option<Arc<Mailbox>>) -> anyhow::Result<Option<ChannelHandle>> {
    Ok(None)
}
