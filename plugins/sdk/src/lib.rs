//! What a channel's author implements.
//!
//! Owns: the trait [`Channel`], the words for a delivery and its outcome, and [`DynChannel`], the object-safe form the
//! host calls. Built-in channels are linked in and go through the same trait. Absent on purpose: a stable binary
//! interface (it arrives with the loader, behind this same trait), retry policy, templates, addresses' storage.

mod delivery;
mod outcome;
mod secret;

pub use async_trait::async_trait;
pub use delivery::{Delivery, Permission};
pub use outcome::{DeliveryError, Health, Problem, Reason, Receipt, StartError};
pub use secret::Secret;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use std::{future::Future, time::Duration};

/// What a channel says of itself; constant over its life.
#[derive(Clone, Debug)]
pub struct Info {
    /// `[a-z][a-z0-9_]*`.
    pub name: &'static str,
    pub version: &'static str,
    /// Format of the recipient (`email`, `none`, or free text such as `phone`): the host checks what it knows.
    pub recipient: &'static str,
    /// Most items in one `deliver_batch`.
    pub max_batch: usize,
    /// Deliveries under way at once, unless the operator says less.
    pub max_concurrency: usize,
    /// The longest a delivery may take, at most 5 minutes.
    pub timeout: Duration,
    /// The far side honours `idempotency_key`: a lost attempt is not doubtful.
    pub idempotent: bool,
    /// Every delivery asks `permission` before its point of no return, so a call that was cut short without having asked
    /// is not doubtful.
    pub asks_permission: bool,
    /// Parts the host renders from templates before it calls: `subject`, `text`, `html`.
    pub rendered: bool,
}

impl Info {
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            recipient: "text",
            max_batch: 1,
            max_concurrency: 8,
            timeout: Duration::from_secs(30),
            idempotent: false,
            asks_permission: false,
            rendered: true,
        }
    }
}

/// One way to reach a person. Implementors write plain `async fn`s.
///
/// The host may drop a call's future at any await (its timeout, a stop); anything that must not be cut belongs in a
/// task of the channel's own.
pub trait Channel: Sized + Send + Sync + 'static {
    /// Parsed and checked configuration.
    type Config: Send;
    /// What the host hands over at start, beyond the configuration: `()` for most channels.
    type Host: Send;
    const INFO: Info;

    fn start(config: Self::Config, host: Self::Host) -> impl Future<Output = Result<Self, StartError>> + Send;

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

/// The object-safe form, implemented for every [`Channel`].
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
