//! Whether and when a planned delivery goes: asked once per user and channel, in `plan`, and nowhere else.
//!
//! Until preferences, quiet hours, digests and throttles exist, the answer is always "now".

use campanile_model::{ChannelName, Priority, UserId, user::Contact};

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub user: &'a UserId,
    pub contact: &'a Contact,
    pub channel: &'a ChannelName,
    pub notification_type: &'a str,
    pub priority: Priority,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// As soon as it is due.
    Send,
}

pub trait Policy: Send + Sync + 'static {
    fn decide(&self, question: &Question<'_>) -> Decision;
}

/// The policy of a tower without preferences.
#[derive(Clone, Copy, Debug)]
pub struct SendNow;

impl Policy for SendNow {
    fn decide(&self, _question: &Question<'_>) -> Decision {
        Decision::Send
    }
}
