//! One running instance of a channel behind the table.

use super::{
    Line,
    line::Table,
    work::{Board, Guard},
};
use crate::{
    Channel, Context, OwnedDelivery, bridge,
    contain::{Panic, contained, told},
    executor::Executor,
    wire::{self, Outcome, Status},
};
use futures_util::future::{AbortHandle, Abortable, BoxFuture, FutureExt};
use serde_json::json;
use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) struct Instance<C> {
    line: Arc<Line>,
    board: Arc<Board>,
    executor: Executor,
    channel: Arc<Mutex<Option<Arc<C>>>>,
}

/// A future's output, or what it panicked with.
async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(told)
}

fn internal(panic: Panic) -> Outcome {
    Outcome::new(Status::Internal, "panic", panic.0)
}

impl<C: Channel> Instance<C> {
    /// An instance whose start is under way: `token` says how it went.
    pub(crate) fn start(line: Arc<Line>, config: Vec<u8>, token: u64) -> io::Result<Self> {
        // Names of threads end after 15 bytes on Linux; the number tells instances apart there.
        static STARTED: AtomicU64 = AtomicU64::new(1);
        let name = format!("{:.9}#{}", C::INFO.name, STARTED.fetch_add(1, Ordering::Relaxed));
        let on_thread = line.clone();
        let executor = Executor::start(&name, move || bridge::stay(&on_thread))?;
        bridge::joined(&line);
        let instance = Self { line, board: Arc::default(), executor, channel: Arc::default() };
        instance.begin(config, token);
        Ok(instance)
    }

    fn begin(&self, config: Vec<u8>, token: u64) {
        let services = Table { line: self.line.clone(), sleeper: self.executor.sleeper() };
        let context = Context::new(C::INFO.name, Arc::new(services));
        let place = self.channel.clone();
        self.work([token].into_iter(), move |mut guards| {
            async move {
                let Some(guard) = guards.pop() else { return };
                let config = match contained(|| wire::config::<C>(&config)) {
                    Ok(Ok(config)) => config,
                    Ok(Err(problems)) => {
                        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
                        let mut outcome = Outcome::new(Status::Misconfigured, "config", said.join("\n"));
                        let list: Vec<_> = problems.iter().map(wire::WireProblem::from).collect();
                        outcome.detail = Some(json!({ "problems": list }));
                        return guard.end(&outcome);
                    }
                    Err(panic) => return guard.end(&internal(panic)),
                };
                match caught(C::start(config, context)).await {
                    Ok(Ok(channel)) => {
                        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(channel));
                        guard.end(&Outcome::ok());
                    }
                    Ok(Err(error)) => guard.end(&Outcome::new(Status::Retry, "start_failed", error.to_string())),
                    Err(panic) => guard.end(&internal(panic)),
                }
            }
            .boxed()
        });
    }

    fn channel(&self) -> Option<Arc<C>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs what `make` makes of the tokens' guards; cancelling all of the tokens drops it.
    fn work(
        &self,
        tokens: impl ExactSizeIterator<Item = u64> + Clone,
        make: impl FnOnce(Vec<Guard>) -> BoxFuture<'static, ()>,
    ) {
        let (abort, registration) = AbortHandle::new_pair();
        let first = tokens.clone().next().unwrap_or(0);
        let guards = self.board.enter(&self.line, &C::INFO, tokens, abort);
        let work = Abortable::new(make(guards), registration).map(drop);
        self.executor.spawn(Box::pin(bridge::scoped(self.line.clone(), first, work)));
    }

    /// Each item alone, or all in one call if the channel takes several.
    pub(crate) fn deliver(&self, mut items: Vec<(u64, OwnedDelivery)>) {
        if items.len() > 1 && C::INFO.max_batch > 1 {
            return self.deliver_together(items);
        }
        for (token, item) in items.drain(..) {
            let channel = self.channel();
            self.work([token].into_iter(), move |mut guards| {
                async move {
                    let Some(guard) = guards.pop() else { return };
                    let Some(channel) = channel else { return guard.end(&not_started()) };
                    let outcome = match caught(channel.deliver(item.borrow(&*guard.work))).await {
                        Ok(result) => Outcome::of_delivery(result),
                        Err(panic) => internal(panic),
                    };
                    guard.end(&outcome);
                }
                .boxed()
            });
        }
    }

    fn deliver_together(&self, items: Vec<(u64, OwnedDelivery)>) {
        let channel = self.channel();
        let tokens: Vec<_> = items.iter().map(|(token, _)| *token).collect();
        self.work(tokens.into_iter(), move |guards| {
            async move {
                let Some(channel) = channel else {
                    for guard in guards {
                        guard.end(&not_started());
                    }
                    return;
                };
                let borrowed = items.iter().zip(&guards).map(|((_, item), guard)| item.borrow(&*guard.work)).collect();
                match caught(channel.deliver_batch(borrowed)).await {
                    Ok(results) => {
                        let mut results = results.into_iter();
                        for guard in guards {
                            let outcome = results.next().map_or_else(too_few, Outcome::of_delivery);
                            guard.end(&outcome);
                        }
                    }
                    Err(panic) => {
                        let outcome = internal(panic);
                        for guard in guards {
                            guard.end(&outcome);
                        }
                    }
                }
            }
            .boxed()
        });
    }

    pub(crate) fn cancel(&self, token: u64) {
        self.board.cancel(token);
    }

    pub(crate) fn health(&self, token: u64) {
        let channel = self.channel();
        self.work([token].into_iter(), move |mut guards| {
            async move {
                let Some(guard) = guards.pop() else { return };
                let Some(channel) = channel else { return guard.end(&not_started()) };
                let outcome = match caught(channel.health()).await {
                    Ok(health) => Outcome::of_health(health),
                    Err(panic) => internal(panic),
                };
                guard.end(&outcome);
            }
            .boxed()
        });
    }

    pub(crate) fn stop(&self, token: u64) {
        let channel = self.channel();
        self.work([token].into_iter(), move |mut guards| {
            async move {
                let Some(guard) = guards.pop() else { return };
                let outcome = match channel {
                    None => Outcome::ok(),
                    Some(channel) => caught(channel.stop()).await.map_or_else(internal, |()| Outcome::ok()),
                };
                guard.end(&outcome);
            }
            .boxed()
        });
    }
}

/// Drops the channel and every task, which ends every token; joins every thread; and never calls the host again.
impl<C> Drop for Instance<C> {
    fn drop(&mut self) {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.executor.within(|| drop(contained(|| drop(channel))));
        let _ = contained(|| self.executor.shut_down());
        bridge::left(&self.line);
        self.line.close();
    }
}

fn not_started() -> Outcome {
    Outcome::new(Status::Retry, "not_started", "the channel has not started")
}

fn too_few() -> Outcome {
    let outcome = Outcome::new(Status::Internal, "too_few_results", "deliver_batch gave fewer results than deliveries");
    Outcome { detail: Some(json!({ "campanile_uncertain": true })), ..outcome }
}
