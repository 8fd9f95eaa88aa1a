//! Faults on purpose, for `serve --dev`: a mail provider that is slow or answers 503, so that retries, the breaker and the
//! console's sentence can be watched without a broken provider at hand.

use campanile_plugin::{Delivery, DeliveryError, DynChannel, Health, Info, Reason, Receipt};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

/// Longer than a person likes to wait, shorter than the channel's own time limit.
const SLOW: Duration = Duration::from_secs(5);

/// How the provider behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provider {
    Well,
    Slow,
    Failing,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::Well, Self::Slow, Self::Failing];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Slow => "slow",
            Self::Failing => "failing",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

#[derive(Debug, Default)]
pub struct Faults(AtomicU8);

impl Faults {
    pub fn set(&self, provider: Provider) {
        self.0.store(provider as u8, Relaxed);
    }

    pub fn provider(&self) -> Provider {
        Provider::ALL.into_iter().find(|p| *p as u8 == self.0.load(Relaxed)).unwrap_or(Provider::Well)
    }
}

/// A channel behind the switches.
pub struct Faulty {
    pub inner: Arc<dyn DynChannel>,
    pub faults: Arc<Faults>,
}

impl DynChannel for Faulty {
    fn info(&self) -> &Info {
        self.inner.info()
    }

    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        async move {
            match self.faults.provider() {
                Provider::Well => {}
                Provider::Slow => tokio::time::sleep(SLOW).await,
                Provider::Failing => {
                    return Err(DeliveryError::retry(Reason::new("503", "as /dev was told to answer")));
                }
            }
            self.inner.deliver(delivery).await
        }
        .boxed()
    }

    fn deliver_batch<'a>(&'a self, items: Vec<Delivery<'a>>) -> BoxFuture<'a, Vec<Result<Receipt, DeliveryError>>> {
        join_all(items.into_iter().map(|d| self.deliver(d))).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.inner.health()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.inner.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_reads_back() {
        let faults = Faults::default();
        assert_eq!(faults.provider(), Provider::Well);
        for p in Provider::ALL {
            faults.set(p);
            assert_eq!((faults.provider(), Provider::parse(p.as_str())), (p, Some(p)));
        }
        assert_eq!(Provider::parse("on fire"), None);
    }
}
