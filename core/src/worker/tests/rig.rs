//! What the worker's tests stand on.

use super::*;
use crate::connection::NodeBus as _;

/// A host without doors: store, status, queue, ingest, one external channel and the in-app one.
pub(super) struct Rig {
    pub(super) config: Config,
    pub(super) store: Arc<dyn Store>,
    pub(super) status: Arc<Status>,
    pub(super) parts: Option<Context>,
    pub(super) worker: Option<Worker>,
    pub(super) seen: Mutex<broadcast::Receiver<Transition>>,
    pub(super) fake: Arc<Fake>,
    pub(super) push: Arc<Fake>,
    pub(super) _dir: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::with(answers, |_| {}).await
    }

    /// With the limits of e-mail for the external channel, `probe`. Fast enough to watch: a retry schedule of 20, 40 and 60 ms.
    pub(super) async fn with(answers: impl IntoIterator<Item = Answer>, change: impl FnOnce(&mut Config)) -> Self {
        Self::behind(Fake::new(answers), &[], change).await
    }

    /// The channel's first instance, and those that stand behind it.
    pub(super) async fn behind(
        fake: Arc<Fake>,
        others: &[(&str, Arc<Fake>)],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config::defaults().unwrap();
        config.server.data_dir = dir.path().to_owned();
        config.retry.schedule = vec![ms(20), ms(40), ms(60)];
        config.worker.poll = ms(10);
        config.worker.sweep = ms(20);
        config.retry.breaker_open = ms(50);
        change(&mut config);
        let shared = Arc::new(config.clone());
        let metrics = Arc::new(Metrics::new());
        let (sink, announcer) = status::announcements();
        let store = store::open(&shared, Arc::new(sink), metrics.clone()).await.unwrap();
        let queue: Arc<dyn WorkQueue> = LocalQueue::new(config.queue.capacity);
        let bus = LocalBus::new();
        let pulse = crate::console::Pulse::new(Arc::new(SystemClock));
        let status = Status::new(store.clone(), queue.clone(), bus.clone(), metrics.clone(), pulse);
        let push = Fake::new([]);
        let mut in_app = fake::handle("websocket", push.clone());
        in_app.in_app = true;
        let mut probe = fake::handle("probe", fake.clone());
        probe.timeout = *config.email.timeout;
        probe.instances.extend(others.iter().map(|(name, fake)| ((*name).to_owned(), fake.clone())));
        let channels = fake::registry(vec![in_app, probe], &config.retry, &metrics);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ingest = Ingest::new(IngestParts {
            config: shared.clone(),
            store: store.clone(),
            status: status.clone(),
            channels: channels.clone(),
            queue: queue.clone(),
            depths: crate::queue::Depths::new(store.clone()),
            bus: bus.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        bus.attach(vec![channels.clone(), ingest.clone()]);
        let seen = Mutex::new(status.watch());
        tokio::spawn(status.clone().announce(announcer, channels.clone(), CancellationToken::new()));
        let context = Context {
            node: NodeId::new(),
            clock,
            store: store.clone(),
            queue,
            status: status.clone(),
            channels,
            renderer: {
                let (address, secret) = ("127.0.0.1:1".parse().unwrap(), campanile_plugin::Secret::new("secret"));
                Renderer::new(&config, address, &secret, metrics.clone()).unwrap()
            },
            ingest,
            leases: crate::worker::Leases::new(*config.worker.lease),
            schedule: crate::worker::Schedule::new(&config.retry),
            bell: Arc::default(),
            turns: tokio::sync::Semaphore::new(crate::worker::TURNS as usize),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            attempts: TaskTracker::new(),
            troubled_at: Mutex::default(),
            metrics,
            config: shared,
        };
        Self { config, store, status, parts: Some(context), worker: None, seen, fake, push, _dir: dir }
    }

    pub(super) fn start(mut self) -> Self {
        self.worker = self.parts.take().map(Worker::run);
        self
    }

    pub(super) fn context(&self) -> &Context {
        self.worker.as_ref().map(|w| &*w.ctx).or(self.parts.as_ref()).unwrap()
    }

    /// One notification to `bob` by `channel`.
    pub(super) async fn accept_by(&self, channel: &str, change: impl FnOnce(&mut Notification)) -> DeliveryId {
        let mut notification = Notification::clone(&fake::notification());
        change(&mut notification);
        let id = DeliveryId::new();
        let in_app = channel == "websocket";
        let delivery = DeliveryPlan {
            id,
            channel: channel.into(),
            recipient: (!in_app).then(|| "bob-1".to_owned()),
            recipient_inline: true,
            in_app,
            suppressed: None,
            fast: true,
        };
        let bob = RecipientPlan { user_id: "bob".into(), generation: 0, deliveries: vec![delivery] };
        self.accept(notification, AudiencePlan::Inline(vec![bob])).await;
        id
    }

    pub(super) async fn accept(&self, notification: Notification, audience: AudiencePlan) {
        let item = AcceptItem {
            notification,
            audience,
            idempotency: None,
            request: serde_json::json!({}),
            source: Source::Api,
            sent_by: "operator".to_owned(),
        };
        self.status.accept(item).await.unwrap();
    }

    pub(super) async fn send(&self) -> DeliveryId {
        self.accept_by("probe", |_| {}).await
    }

    /// Waits for the delivery's arrival at a state and gives its reason.
    pub(super) async fn until(&self, id: DeliveryId, state: S) -> Option<String> {
        let arrival = async {
            loop {
                let mut seen = self.seen.lock().unwrap().resubscribe();
                if let Some(row) = self.find(id).await.filter(|row| row.state == state) {
                    return row.reason;
                }
                let _ = tokio::time::timeout(Duration::from_millis(200), seen.recv()).await;
            }
        };
        if let Ok(reason) = tokio::time::timeout(Duration::from_secs(20), arrival).await {
            return reason;
        }
        panic!("{id} did not become {state}: {:?}", self.find(id).await)
    }

    pub(super) async fn find(&self, id: DeliveryId) -> Option<DeliveryRow> {
        let filter = campanile_model::ports::NotificationFilter { limit: 100, ..Default::default() };
        for (row, _) in self.store.notifications(&filter).await.unwrap() {
            let detail = self.store.notification(&"default".into(), row.notification.id, None).await.unwrap().unwrap();
            if let Some(found) = detail.deliveries.into_iter().find(|d| d.id == id) {
                return Some(found);
            }
        }
        None
    }

    pub(super) async fn attempts(&self, id: DeliveryId) -> Vec<AttemptRow> {
        self.find(id).await.unwrap().attempts
    }

    pub(super) async fn outcomes(&self, id: DeliveryId) -> Vec<String> {
        self.attempts(id).await.into_iter().map(|a| a.outcome).collect()
    }

    pub(super) async fn drain(mut self, limit: Duration) -> Self {
        self.worker.take().unwrap().drain(limit).await;
        self
    }
}
