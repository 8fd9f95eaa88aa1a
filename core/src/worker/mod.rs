//! Claim → send → finish. STUB.

use crate::host::Services;
use std::{sync::Arc, time::Duration};

pub struct Worker {}

impl Worker {
    /// Starts the relay, the sweeper, audience expansion and one consumer per channel.
    pub fn start(_services: Arc<Services>) -> Self {
        Self {}
    }
    /// Stops claiming, waits for what is under way up to `limit`, gives the rest back.
    pub async fn drain(self, _limit: Duration) {}
}
