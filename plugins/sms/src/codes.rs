//! What error codes mean.

use campanile_plugin::prelude::*;

/// What a code of a provider means for the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// The number is dead or its owner wants nothing more: suppress it.
    Gone,
    /// This message can never go.
    Permanent,
    /// Try again.
    Retry,
    /// Slow down.
    Throttled,
    /// Our account or credentials.
    Misconfigured,
}

impl Class {
    pub(crate) fn error(self, after: Option<Duration>, reason: Reason) -> DeliveryError {
        match self {
            Self::Gone => DeliveryError::recipient_gone(reason),
            Self::Permanent => DeliveryError::permanent(reason),
            Self::Retry => DeliveryError::Retry { after, reason },
            Self::Throttled => DeliveryError::throttled(after, reason),
            Self::Misconfigured => DeliveryError::misconfigured(reason),
        }
    }
}

/// Twilio's, of those that come with the answer to a request. Others are judged by the status.
pub(crate) fn twilio(code: u64) -> Option<Class> {
    Some(match code {
        // Not a number, not a mobile's, not reachable by SMS; opted out.
        21211 | 21214 | 21217 | 21610 | 21614 | 21635 => Class::Gone,
        // Too long, empty, to itself, no route to that country or number, blocked by us.
        21263 | 21266 | 21407 | 21408 | 21602 | 21605 | 21612 | 21617 | 21619 | 30004 | 30006 | 30007 => {
            Class::Permanent
        }
        // Queue full, too many requests, limits of a day.
        14107 | 20429 | 21611 | 30001 | 30022 | 30023 | 63018 => Class::Throttled,
        // Account, token, sender, balance, geographic permissions of the sender.
        10001 | 20003 | 20005 | 20008 | 20404 | 21212 | 21603 | 21604 | 21606 | 21608 | 21659 | 21660 | 21661
        | 21701 | 21702 | 21703 | 30002 | 30034 => Class::Misconfigured,
        20500..=20504 | 30008 => Class::Retry,
        _ => return None,
    })
}
