//! Waiting for events instead of for a while.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long anything may take before a test calls it lost. Generous: a busy machine is not a fault of the product.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks again until the answer is `Some`; panics with `what` when the deadline passes.
pub async fn until<T, F, Fut>(what: &str, ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    until_within(DEADLINE, what, ask).await
}

/// [`until`] with a deadline of its own.
pub async fn until_within<T, F, Fut>(deadline: Duration, what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
