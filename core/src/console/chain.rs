//! How far the audit log's chain was followed, and where it breaks.
//!
//! Followed a step at a time: once a minute, and when somebody looks. From time to time it begins anew, so that a change to
//! an old entry shows too.

use campanile_model::{
    Timestamp,
    ports::{AuditStore, ChainMark, StoreResult},
};
use chrono::TimeDelta;
use tokio::sync::Mutex;

/// Entries of one statement, and statements of one step.
const PAGE: u32 = 1_000;
const PAGES: u32 = 10;
/// After this long everything is followed again.
const ANEW: TimeDelta = TimeDelta::hours(1);

/// What is known of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainView {
    /// The last entry that follows from all before it, and when it was written.
    pub up_to: Option<i64>,
    pub at: Option<Timestamp>,
    /// Entries followed since the beginning.
    pub followed: u64,
    /// The first entry that does not follow.
    pub broken: Option<i64>,
    /// Nothing is left to follow.
    pub whole: bool,
    pub looked_at: Option<Timestamp>,
}

#[derive(Default)]
struct State {
    view: ChainView,
    mark: Option<ChainMark>,
    began: Option<Timestamp>,
}

#[derive(Default)]
pub struct Chain(Mutex<State>);

impl Chain {
    /// Follows on from where it was; who comes meanwhile waits.
    pub async fn advance<S: AuditStore + ?Sized>(&self, store: &S, now: Timestamp) -> StoreResult<ChainView> {
        let mut state = self.0.lock().await;
        if state.view.whole && state.began.is_none_or(|began| now - began > ANEW) {
            // A break that was found is told of until all was followed again.
            let view = ChainView { followed: 0, ..state.view.clone() };
            *state = State { view, mark: None, began: None };
        }
        state.began.get_or_insert(now);
        for _ in 0..PAGES {
            let check = store.check_audit(state.mark.as_ref(), PAGE).await?;
            let view = &mut state.view;
            view.followed += check.followed;
            view.up_to = (check.mark.id > 0).then_some(check.mark.id);
            view.at = check.at.or(view.at);
            view.whole = check.done;
            view.looked_at = Some(now);
            if check.done {
                view.broken = check.broken;
            }
            state.mark = Some(check.mark);
            if state.view.whole {
                break;
            }
        }
        Ok(state.view.clone())
    }
}
