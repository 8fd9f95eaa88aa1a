//! The trait that authors implement, and its object-safe form that the host calls.

use crate::{Context, Delivery, DeliveryError, Health, Info, Problem, Receipt, StartError};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::future::Future;

/// One way to reach a person. Implementors write plain `async fn`s.
///
/// The host may drop a call's future at any await (its timeout, a stop); anything that must not be cut belongs in a
/// task of the channel's own.
pub trait Channel: Sized + Send + Sync + 'static {
    /// Write `#[serde(deny_unknown_fields)]` on it: a key that nobody reads is a mistake that nobody sees. Its doc
    /// comments become the help texts of the dashboard's form.
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    const INFO: Info;

    /// What the types of [`Self::Config`] can't say, without I/O. Called before `start`, and for a form before it is
    /// saved.
    fn validate(config: &Self::Config) -> Result<(), Vec<Problem>> {
        let _ = config;
        Ok(())
    }

    fn start(config: Self::Config, context: Context) -> impl Future<Output = Result<Self, StartError>> + Send;

    /// Takes one delivery to the far side. `Ok` means the far side took responsibility.
    fn deliver(&self, delivery: Delivery<'_>) -> impl Future<Output = Result<Receipt, DeliveryError>> + Send;

    /// Several at once, results in the same order. By default they run side by side.
    fn deliver_batch(
        &self,
        items: Vec<Delivery<'_>>,
    ) -> impl Future<Output = Vec<Result<Receipt, DeliveryError>>> + Send {
        async move { join_all(items.into_iter().map(|d| self.deliver(d))).await }
    }

    /// Quick self-check, called every 30 s.
    fn health(&self) -> impl Future<Output = Health> + Send {
        async { Health::Ok }
    }

    /// Finish what must be finished; called once, before drop.
    fn stop(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The object-safe form, implemented for every [`Channel`]. Loaders implement it themselves.
pub trait DynChannel: Send + Sync + 'static {
    fn info(&self) -> &Info;
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> BoxFuture<'a, Result<Receipt, DeliveryError>>;
    fn deliver_batch<'a>(&'a self, items: Vec<Delivery<'a>>) -> BoxFuture<'a, Vec<Result<Receipt, DeliveryError>>>;
    fn health(&self) -> BoxFuture<'_, Health>;
    fn stop(&self) -> BoxFuture<'_, ()>;
}

impl<C: Channel> DynChannel for C {
    fn info(&self) -> &Info {
        const { &C::INFO }
    }
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        Channel::deliver(self, delivery).boxed()
    }
    fn deliver_batch<'a>(&'a self, items: Vec<Delivery<'a>>) -> BoxFuture<'a, Vec<Result<Receipt, DeliveryError>>> {
        Channel::deliver_batch(self, items).boxed()
    }
    fn health(&self) -> BoxFuture<'_, Health> {
        Channel::health(self).boxed()
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        Channel::stop(self).boxed()
    }
}
