//! One word for a notification, computed from the states of its deliveries and never stored.

use campanile_model::{DeliveryState as S, api::ShownState};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Stored, nothing tried yet.
    Accepted,
    /// Everything waits for its time.
    Scheduled,
    /// Some of it is under way, or done while other parts wait.
    Sending,
    /// All of it went out.
    Delivered,
    /// Settled; some of it went out, some did not.
    Partly,
    /// Settled; nothing went out, and at least one delivery was given up on.
    Failed,
    /// Settled; nothing went out before `expires_at`.
    Expired,
    /// Settled; taken back before anything went out.
    Cancelled,
    /// Settled; rules kept every delivery from being tried.
    Suppressed,
}

/// `expanded`: every recipient of a large audience has its deliveries. `called_off`: it was cancelled, perhaps before it
/// had any.
pub fn overall(states: &[(ShownState, u64)], expanded: bool, called_off: bool) -> Overall {
    let count = |wanted: &[S]| -> u64 {
        states.iter().filter(|(s, _)| matches!(s, ShownState::Stored(s) if wanted.contains(s))).map(|(_, n)| n).sum()
    };
    let scheduled: u64 = states.iter().filter(|(s, _)| *s == ShownState::Scheduled).map(|(_, n)| n).sum();
    let done = count(&[S::Sent, S::Delivered]);
    let moving = count(&[S::Sending, S::Retrying]);
    let waiting = count(&[S::Pending]);
    let (dead, expired) = (count(&[S::Dead]), count(&[S::Expired]));
    let (suppressed, cancelled) = (count(&[S::Suppressed]), count(&[S::Cancelled]));

    if !expanded || moving + waiting + scheduled > 0 {
        return if moving + done > 0 {
            Overall::Sending
        } else if scheduled > 0 && waiting == 0 {
            Overall::Scheduled
        } else {
            Overall::Accepted
        };
    }
    match (done, dead + expired + suppressed + cancelled) {
        (1.., 0) => Overall::Delivered,
        (1.., _) => Overall::Partly,
        (0, 0) if called_off => Overall::Cancelled,
        (0, _) if dead > 0 => Overall::Failed,
        (0, _) if expired > 0 => Overall::Expired,
        (0, _) if cancelled > 0 => Overall::Cancelled,
        (0, _) => Overall::Suppressed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_for_all_of_it() {
        let stored = |list: &[(S, u64)]| list.iter().map(|(s, n)| (ShownState::Stored(*s), *n)).collect::<Vec<_>>();
        for (states, word) in [
            (stored(&[(S::Pending, 1)]), Overall::Accepted),
            (stored(&[(S::Pending, 1), (S::Sent, 1)]), Overall::Sending),
            (stored(&[(S::Retrying, 1)]), Overall::Sending),
            (stored(&[(S::Delivered, 1), (S::Sent, 2)]), Overall::Delivered),
            (stored(&[(S::Sent, 1), (S::Suppressed, 1)]), Overall::Partly),
            (stored(&[(S::Sent, 1), (S::Dead, 1)]), Overall::Partly),
            (stored(&[(S::Dead, 1), (S::Cancelled, 1)]), Overall::Failed),
            (stored(&[(S::Expired, 1), (S::Suppressed, 1)]), Overall::Expired),
            (stored(&[(S::Cancelled, 1), (S::Suppressed, 1)]), Overall::Cancelled),
            (stored(&[(S::Suppressed, 1)]), Overall::Suppressed),
            (stored(&[]), Overall::Suppressed),
            (vec![(ShownState::Scheduled, 2)], Overall::Scheduled),
            (vec![(ShownState::Scheduled, 2), (ShownState::Stored(S::Suppressed), 1)], Overall::Scheduled),
        ] {
            assert_eq!(overall(&states, true, false), word, "{states:?}");
        }
        assert_eq!(overall(&stored(&[(S::Sent, 500)]), false, false), Overall::Sending);
        assert_eq!(overall(&[], false, false), Overall::Accepted);
        assert_eq!(overall(&[], true, true), Overall::Cancelled, "a crowd that was cancelled before it was expanded");
        assert_eq!(
            overall(&stored(&[(S::Suppressed, 1)]), true, true),
            Overall::Suppressed,
            "there was nothing to take"
        );
    }
}
