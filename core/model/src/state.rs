//! States of a delivery and the only table of legal moves; the database's `CHECK` repeats the list.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Accepted, not yet tried; with a future due time the API shows `scheduled`.
    Pending,
    /// Claimed by a worker under a lease.
    Sending,
    /// Tried, will be tried again.
    Retrying,
    /// Handed to the far side (websocket: committed to the feed).
    Sent,
    /// Confirmed: written to a live socket, acked, or a provider's callback.
    Delivered,
    /// Given up on; `reason` says why. Replay may revive it.
    Dead,
    /// Its `expires_at` passed first.
    Expired,
    /// Not tried, by rule: no address, unsubscribed, suppressed address.
    Suppressed,
    /// Taken back: cancelled, collapsed, erased, merged.
    Cancelled,
}

use DeliveryState as S;

impl DeliveryState {
    pub const ALL: [Self; 9] =
        [S::Pending, S::Sending, S::Retrying, S::Sent, S::Delivered, S::Dead, S::Expired, S::Suppressed, S::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            S::Pending => "pending",
            S::Sending => "sending",
            S::Retrying => "retrying",
            S::Sent => "sent",
            S::Delivered => "delivered",
            S::Dead => "dead",
            S::Expired => "expired",
            S::Suppressed => "suppressed",
            S::Cancelled => "cancelled",
        }
    }

    /// Settled states are final but for `sent → delivered`, `sent → dead (bounced)` and audited replay.
    pub const fn is_settled(self) -> bool {
        matches!(self, S::Sent | S::Delivered | S::Dead | S::Expired | S::Suppressed | S::Cancelled)
    }

    /// The only table of moves. `Dead → Pending` is replay and writes an audit entry.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            // `Pending → Sent` is the deferred in-app step: one transaction, no lease.
            S::Pending | S::Retrying => {
                matches!(next, S::Sending | S::Sent | S::Dead | S::Expired | S::Suppressed | S::Cancelled)
            }
            S::Sending => matches!(next, S::Sent | S::Retrying | S::Dead | S::Cancelled),
            S::Sent => matches!(next, S::Delivered | S::Dead),
            S::Dead => matches!(next, S::Pending),
            S::Delivered | S::Expired | S::Suppressed | S::Cancelled => false,
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeliveryState {
    type Err = UnknownState;
    fn from_str(s: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|v| v.as_str() == s).ok_or_else(|| UnknownState(s.to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("unknown delivery state {0:?}")]
pub struct UnknownState(pub String);

/// Why a delivery is where it is: a short snake_case word, stored and shown as it is.
///
/// Channels add their own words (a provider's code); the constants are the host's.
pub type Reason = String;

/// The host's own reasons.
pub mod reason {
    pub const NO_ADDRESS: &str = "no_address";
    pub const UNSUBSCRIBED: &str = "unsubscribed";
    pub const SUPPRESSED_ADDRESS: &str = "suppressed_address";
    pub const CANCELLED: &str = "cancelled";
    pub const COLLAPSED: &str = "collapsed";
    pub const ERASED: &str = "erased";
    /// Its user was merged into another, who has the same notification by the same channel.
    pub const MERGED: &str = "merged";
    pub const EXPIRED: &str = "expired";
    pub const MAX_ATTEMPTS: &str = "max_attempts";
    pub const MAX_AGE: &str = "max_age";
    pub const POISON: &str = "poison";
    pub const PERMANENT: &str = "permanent";
    pub const RECIPIENT_GONE: &str = "recipient_gone";
    pub const BOUNCED: &str = "bounced";
    pub const USER_DISABLED: &str = "user_disabled";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for s in DeliveryState::ALL {
            assert_eq!(s.as_str().parse::<DeliveryState>().unwrap(), s);
        }
    }

    #[test]
    fn settled_states_leave_only_as_the_contract_says() {
        let legal: Vec<_> = DeliveryState::ALL
            .into_iter()
            .filter(|s| s.is_settled())
            .flat_map(|a| DeliveryState::ALL.into_iter().filter(move |b| a.may_become(*b)).map(move |b| (a, b)))
            .collect();
        assert_eq!(legal, [(S::Sent, S::Delivered), (S::Sent, S::Dead), (S::Dead, S::Pending)]);
    }
}
