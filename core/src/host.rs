//! Builds every part in order; start and stop readable on one screen.

use crate::{
    channel::{self, Keeper, KeeperParts, Registry, Renderer, loaded::Files, setup::secrets::Vault, spec},
    cluster::{self, Cluster},
    config::{Config, Loaded, secrets},
    connection::{self, Hub, NodeBus, Rest, bus},
    console::{self, Console, Pulse},
    dev::{hooks::Hooks, mailbox::Mailbox},
    http::{
        self,
        admin::Doorman,
        auth::{Gate, jwt::Jwt},
    },
    ingest::{Ingest, IngestParts},
    observe::Metrics,
    outbound::Outbound,
    queue::{
        self, Depths,
        intake::{self, Intake},
    },
    services::{Origins, Services},
    status::{self, Status},
    store,
    worker::Worker,
};
use campanile_model::{
    Clock, NodeId,
    clock::SystemClock,
    ports::{Actor, Store, StoreError, StoreResult},
};
use campanile_plugin::Secret;
use serde_json::json;
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

/// What signs unsubscribe links. Nodes on one database have one: a link made by any of them works at all of them.
async fn links_secret(config: &Config, store: &dyn Store) -> anyhow::Result<Secret> {
    const NAME: &str = "unsubscribe_secret";
    if config.database.is_embedded() {
        return secrets::load_or_create(&config.server.data_dir, NAME);
    }
    if config.auth.generates_secret() {
        tracing::warn!(
            "Tokens are checked with a secret that only this node's data folder has; other nodes on this database refuse \
             them. Set auth.jwt_secret_file, auth.jwt_public_key_file or auth.jwks_url"
        );
    }
    Ok(Secret::new(store.shared_secret(NAME, &secrets::fresh()).await?))
}

/// A running host.
pub struct Host {
    pub services: Arc<Services>,
    worker: Worker,
    /// Where notifications come in by RabbitMQ.
    intake: Option<Intake>,
    cluster: Cluster,
    bus: Arc<dyn NodeBus>,
    /// Tells the world of commits until `told` says that there will be no more.
    announcer: JoinHandle<()>,
    told: CancellationToken,
}

impl Host {
    pub async fn start(loaded: Loaded, dev: bool) -> anyhow::Result<Self> {
        let origins = Origins { file: loaded.file, settings: loaded.settings };
        let config = Arc::new(loaded.config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let listener = TcpListener::bind(&config.server.listen).await?;
        let address = listener.local_addr()?;

        let (sink, announcer) = status::announcements();
        let store = open_store(&config, &sink, &metrics).await?;
        let installed = json!({"version": env!("CARGO_PKG_VERSION")});
        store.begin_audit(&Actor { who: "system".to_owned(), ..Actor::default() }, installed).await?;
        let node = NodeId::new();
        let queue = queue::open(&config, node, store.clone(), metrics.clone())?;
        let bus = bus::open(&config, node, &metrics)?;
        let pulse = Pulse::new(clock.clone());
        let status = Status::new(store.clone(), queue.clone(), bus.clone(), metrics.clone(), pulse.clone());
        let hub = Hub::new(&config, bus.clone(), metrics.clone());
        let mailbox = (dev && config.email.url.is_empty()).then(Arc::<Mailbox>::default);
        let channels = Registry::new(&config.retry, &metrics);
        let outbound = Arc::<Outbound>::default();
        let catalogue = channel::built_in(&hub, mailbox.clone(), &outbound);
        if let Some(files) = Files::open(&config, clock.clone(), store.clone(), metrics.clone(), outbound) {
            channel::from_files(files, &catalogue).await;
        }
        let mut fixed = vec![spec::websocket()];
        fixed.extend(spec::of_file(&config, mailbox.is_some()));
        let keeper = Keeper::new(KeeperParts {
            node,
            registry: channels.clone(),
            catalogue,
            store: store.clone(),
            queue: queue.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            vault: Vault::open(&config)?,
            fixed,
        });
        keeper.look().await?;
        let pushes = channels.entry("websocket");
        anyhow::ensure!(
            pushes.as_ref().is_some_and(|e| e.runner.is_some()),
            "the websocket channel did not start: {}",
            pushes.and_then(|e| e.failure).map_or_else(String::new, |f| f.reason)
        );
        let served: Vec<_> = channels.guards().iter().filter(|g| g.enabled()).map(|g| g.name().clone()).collect();
        queue.prepare(&served).await?;
        let gate = Gate::new(&config, dev, address, store.clone(), clock.clone())?;
        let depths = Depths::new(store.clone());
        let ingest = Ingest::new(IngestParts {
            config: config.clone(),
            store: store.clone(),
            status: status.clone(),
            channels: channels.clone(),
            queue: queue.clone(),
            depths: depths.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        let rest = Rest::new(node, hub.clone());
        bus.attach(vec![hub.clone(), channels.clone(), ingest.clone(), gate.keys.clone(), rest.clone()]);
        let links = links_secret(&config, store.as_ref()).await?;
        let tasks = TaskTracker::new();
        let told = CancellationToken::new();
        let announcer = tokio::spawn(status.clone().announce(announcer, channels.clone(), told.clone()));
        let services = Arc::new(Services {
            jwt: Jwt::new(&config, clock.clone())?,
            gate,
            renderer: Renderer::new(&config, address, &links, metrics.clone())?,
            origins,
            dev,
            node,
            started_at: clock.now(),
            address,
            clock,
            metrics,
            pulse,
            console: Console::default(),
            doorman: Doorman::default(),
            store,
            queue,
            intake: intake::Standing::default(),
            depths,
            bus: bus.clone(),
            status,
            channels,
            keeper,
            ingest,
            hub,
            rest,
            mailbox,
            hooks: Hooks::default(),
            leaving: CancellationToken::new(),
            draining: CancellationToken::new(),
            tasks,
            config,
        });
        if services.config.database.is_embedded() {
            // No other process has this file, so whatever is leased or connected was left behind by one that died.
            services.store.lapse_all_leases().await?;
            services.store.bury(Duration::ZERO).await?;
        }
        connection::start(&services);
        console::start(&services);
        tokio::spawn(services.keeper.clone().run(services.config.cluster.silent()));
        let worker = Worker::start(&services);
        let intake = Intake::start(&services).await?;
        let cluster = cluster::start(&services);
        http::start(listener, services.clone()).await?;
        Ok(Self { services, worker, intake, cluster, bus, announcer, told })
    }

    /// Readiness off → stop accepting → finish or give back what is under way, sockets closed 1012 → close the store.
    ///
    /// Deliveries are drained from the start; the door stays open for `server.drain_delay`, until balancers have seen it.
    /// Dropping the returned future, or ending the process during it, loses nothing: see the crash table.
    pub async fn stop(self) {
        let s = self.services;
        s.leaving.cancel();
        s.keeper.close();
        let server = &s.config.server;
        let (limit, deadline) = (*server.drain_timeout, Instant::now() + *server.drain_timeout + AFTER_DRAIN);
        let intake = async {
            if let Some(intake) = self.intake {
                intake.drain().await;
            }
        };
        let door = async {
            tokio::time::sleep(*server.drain_delay).await;
            s.draining.cancel();
            s.tasks.close();
            s.hub.drain(*server.drain_spread).await;
        };
        tokio::join!(
            self.worker.drain(limit),
            bounded("messages from RabbitMQ", limit, intake),
            bounded("replaced instances of channels", limit, s.keeper.left()),
            bounded("the sockets", limit, door)
        );
        bounded("requests", deadline - Instant::now(), s.tasks.wait()).await;
        bounded("the goodbye to other nodes", CLOSE, self.cluster.leave()).await;
        bounded("the last commits", CLOSE, s.store.close()).await;
        self.told.cancel();
        bounded("what was committed to be told", CLOSE / 2, self.announcer).await;
        bounded("the node bus", CLOSE, self.bus.close()).await;
    }
}

/// A part of the stop that must not hold up the rest; says what it was.
async fn bounded<T>(what: &str, limit: Duration, part: impl Future<Output = T>) {
    if timeout(limit, part).await.is_err() {
        tracing::warn!("Stopped without waiting any longer for {what}");
    }
}
