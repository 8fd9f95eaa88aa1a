//! Testing a channel: [`Harness`] with a scripted host, and [`conformance`].
//!
//! Everything goes through the C table, as in the real host: the executor, the ends of tokens, cancelling, config text.
//! No network, no clock: answers are scripted, time moves when the test says so.
//!
//! ```
//! use campanile_plugin::{prelude::*, testing::{Harness, Sample, block_on}};
//! # #[derive(Deserialize, JsonSchema)]
//! # #[serde(deny_unknown_fields)]
//! # pub struct Config { url: Url }
//! # pub struct Hook { http: Http, config: Config }
//! # impl Channel for Hook {
//! #     type Config = Config;
//! #     const INFO: Info = info!("hook");
//! #     async fn start(config: Config, c: Context) -> Result<Self, StartError> { Ok(Self { http: c.http(), config }) }
//! #     async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
//! #         Receipt::from_http(self.http.post(&self.config.url).body(d.text()).send().await?)
//! #     }
//! # }
//! block_on(async {
//!     let hook = Harness::<Hook>::start(json!({ "url": "https://example.org/in" })).await.unwrap();
//!     let sample = Sample::to("#general").text("Hello");
//!     hook.deliver_ok(&sample).await;
//!     assert_eq!(hook.script().requests()[0].body, b"Hello");
//!     hook.script().reply(HttpReply::new(503, "busy"));
//!     assert_eq!(hook.expect_retry(&sample).await.code, "http_503");
//! });
//! ```

mod conformance;
mod harness;
mod script;

pub use crate::ffi::test_host::{Handed, Instance, Plugin};
pub use conformance::{conformance, conformance_on};
pub use harness::{Harness, Sample};
pub use script::{Logged, Measured, Script};

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Longer than any test takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a future on this thread, for tests without a runtime. Panics after two minutes, so that what never ends is a test
/// that fails.
pub fn block_on<F: Future>(work: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut work = pin!(work);
    let end = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "waited in vain for a future");
        thread::park_timeout(left);
    }
}
