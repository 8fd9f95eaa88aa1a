//! Since when nothing works. After `fail_after` of it the channel says that it is failing, and the host's breaker then
//! leaves the far side alone but for a try every few minutes; the first success ends it.

use campanile_plugin::prelude::*;
use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

pub(crate) struct Streak {
    limit: Duration,
    /// The first failure after the last success, and what the newest one said.
    failing: Mutex<Option<(Instant, String)>>,
}

impl Streak {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, failing: Mutex::default() }
    }

    pub(crate) fn note(&self, sent: &Result<Receipt, DeliveryError>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Ok(_) => *failing = None,
            // One endpoint that is gone, or one message, says nothing about the rest.
            Err(DeliveryError::RecipientGone { .. } | DeliveryError::Permanent { .. }) => {}
            Err(error) => {
                let since = failing.take().map_or_else(Instant::now, |(since, _)| since);
                *failing = Some((since, error.to_string()));
            }
        }
    }

    pub(crate) fn health(&self) -> Health {
        match &*self.failing.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((since, why)) if since.elapsed() >= self.limit => {
                let limit = Span::from(self.limit);
                Health::Failing(format!("nothing was accepted for {limit:?}; the last answer was {why}"))
            }
            Some((_, why)) => Health::Degraded(format!("the last answer was {why}")),
            None => Health::Ok,
        }
    }
}
