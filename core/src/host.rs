//! Builds every part in order; start and stop readable on one screen.

use crate::{
    channel::{self, Renderer},
    config::Config,
    connection::{self, Hub, LocalBus},
    dev::mailbox::Mailbox,
    http::{
        self,
        auth::{Gate, jwt::Jwt},
    },
    ingest::{Ingest, IngestParts},
    observe::Metrics,
    queue::LocalQueue,
    services::Services,
    status::{self, Status},
    store,
    worker::Worker,
};
use campanile_model::{
    Clock, NodeId,
    clock::SystemClock,
    ports::{Store, StoreError, StoreResult, WorkQueue},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two tries to open a database that is down.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// After deliveries under way were waited for: what is cut is written down, leases are given back.
const AFTER_DRAIN: Duration = Duration::from_millis(2500);
/// Closing the database, and telling the last commits.
const CLOSE: Duration = Duration::from_secs(1);

/// A database that is down is tried again for `database.start_timeout`.
async fn open_store(
    config: &Config,
    sink: &status::Announcements,
    metrics: &Arc<Metrics>,
) -> StoreResult<Arc<dyn Store>> {
    let deadline = Instant::now() + *config.database.start_timeout;
    loop {
        match store::open(config, Arc::new(sink.clone()), metrics.clone()).await {
            Err(StoreError::Unavailable(e)) if Instant::now() < deadline => {
                tracing::warn!("The database can't be used yet, trying again: {e}");
                tokio::time::sleep_until((Instant::now() + STORE_RETRY).min(deadline)).await;
            }
            done => return done,
        }
    }
}

/// A running host.
pub struct Host {
    pub services: Arc<Services>,
    worker: Worker,
    /// Tells the world of commits until `told` says that there will be no more.
    announcer: JoinHandle<()>,
    told: CancellationToken,
}

impl Host {
    pub async fn start(config: Config, dev: bool) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let listener = TcpListener::bind(&config.server.listen).await?;
        let address = listener.local_addr()?;

        let (sink, announcer) = status::announcements();
        let store = open_store(&config, &sink, &metrics).await?;
        let queue: Arc<dyn WorkQueue> = LocalQueue::new(config.queue.capacity);
        let bus = LocalBus::new();
        let status = Status::new(store.clone(), queue.clone(), bus.clone(), metrics.clone());
        let hub = Hub::new(&config, bus.clone(), metrics.clone());
        let mailbox = (dev && config.email.url.is_empty()).then(Arc::<Mailbox>::default);
        let channels = channel::open(&config, hub.clone(), mailbox.clone(), metrics.clone()).await?;
        let gate = Gate::new(&config, dev, address, store.clone(), clock.clone())?;
        let ingest = Ingest::new(IngestParts {
            config: config.clone(),
            store: store.clone(),
            status: status.clone(),
            channels: channels.clone(),
            queue: queue.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        bus.attach(vec![hub.clone(), channels.clone(), ingest.clone(), gate.keys.clone()]);
        let tasks = TaskTracker::new();
        let told = CancellationToken::new();
        let announcer = tokio::spawn(status.clone().announce(announcer, channels.clone(), told.clone()));
        let services = Arc::new(Services {
            jwt: Jwt::new(&config, clock.clone())?,
            gate,
            renderer: Renderer::new(&config, address, metrics.clone())?,
            dev,
            node: NodeId::new(),
            started_at: clock.now(),
            address,
            clock,
            metrics,
            store,
            queue,
            bus,
            status,
            channels,
            ingest,
            hub,
            mailbox,
            draining: CancellationToken::new(),
            tasks,
            config,
        });
        if services.config.database.is_embedded() {
            // No other process has this file, so whatever is leased was left behind by one that died.
            services.store.lapse_all_leases().await?;
        }
        connection::start(&services);
        let worker = Worker::start(&services);
        http::start(listener, services.clone()).await?;
        Ok(Self { services, worker, announcer, told })
    }

    /// Readiness off → stop accepting → finish or give back what is under way, sockets closed 1012 → close the store.
    ///
    /// Dropping the returned future, or ending the process during it, loses nothing: see the crash table.
    pub async fn stop(self) {
        let s = self.services;
        s.draining.cancel();
        s.tasks.close();
        let server = &s.config.server;
        let (limit, deadline) = (*server.drain_timeout, Instant::now() + *server.drain_timeout + AFTER_DRAIN);
        tokio::join!(self.worker.drain(limit), bounded("the sockets", limit, s.hub.drain(*server.drain_spread)));
        bounded("requests", deadline - Instant::now(), s.tasks.wait()).await;
        bounded("the last commits", CLOSE, s.store.close()).await;
        self.told.cancel();
        bounded("what was committed to be told", CLOSE / 2, self.announcer).await;
    }
}

/// A part of the stop that must not hold up the rest; says what it was.
async fn bounded<T>(what: &str, limit: Duration, part: impl Future<Output = T>) {
    if timeout(limit, part).await.is_err() {
        tracing::warn!("Stopped without waiting any longer for {what}");
    }
}
