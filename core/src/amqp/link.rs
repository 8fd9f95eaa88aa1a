//! The supervisor of one connection: connect → open the session → watch → drop all → connect again, for ever.
//!
//! Owns: when a connection counts as dead, the pauses between tries, one line of log per outage. A session is never
//! repaired: after any trouble everything made on the connection is dropped and made anew. Absent on purpose: what a
//! session is (the role's), and any wish to stop the host. A broker that is down is a state, not an error.

use super::{Broker, LinkError, connect::Live, error};
use crate::{
    observe::{Metrics, metrics as m},
    queue::backoff::{Backoff, Outage},
};
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::{Connection, Event};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Declaring and consuming on a new connection; a quorum queue may have to elect a leader first.
const OPEN: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_secs(5);
/// lapin tells of most ends by an event; this finds the rest.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Full jitter on the upper half makes pauses of 0.5 s up to 5 s of these.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What a connection is for.
#[async_trait]
pub trait Role: Send + Sync + 'static {
    /// What is made on each new connection, dropped with it.
    type Session: Send + Sync + 'static;

    /// One word for the metric's label and the connection's name: publish, work, ingest, bus.
    fn name(&self) -> &'static str;

    /// Declares the topology and makes the session. `connection` may be kept in it for more channels.
    async fn open(&self, connection: &Arc<Connection>) -> Result<Self::Session, LinkError>;

    /// Asks every 10 s for a sign of life that only a working broker can give; 5 s without one ends the connection.
    async fn probe(&self, connection: &Arc<Connection>, session: &Self::Session) -> Result<(), LinkError> {
        let _ = session;
        let channel = connection.create_channel().await?;
        Ok(channel.close(200, "alive".into()).await?)
    }
}

pub struct LinkParams {
    pub broker: Broker,
    /// Tells nodes apart in the broker's own list of connections; the role's name is added.
    pub name: String,
    /// Ends the link for good.
    pub stop: CancellationToken,
    pub metrics: Arc<Metrics>,
    pub tasks: TaskTracker,
}

/// One supervised connection; cheap to clone.
pub struct Link<R: Role>(Arc<Inner<R>>);

impl<R: Role> Clone for Link<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Rises by one with every connection and every loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    pub up: bool,
    /// Which connection this is or was; 0 before the first.
    pub generation: u64,
}

struct Inner<R: Role> {
    role: R,
    params: LinkParams,
    session: watch::Sender<Option<Arc<R::Session>>>,
    state: watch::Sender<LinkState>,
    /// How the first try ended.
    first: watch::Sender<Option<Result<(), LinkError>>>,
    /// Somebody who used the session found it dead.
    failed: Notify,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Why the session was given up by who used it.
    failure: Option<String>,
    /// Why there is no session.
    trouble: Option<String>,
    /// The broker's reason for blocking publishers.
    blocked: Option<String>,
}

impl<R: Role> Link<R> {
    /// Begins to connect and returns at once.
    pub fn start(params: LinkParams, role: R) -> Self {
        let inner = Arc::new(Inner {
            session: watch::Sender::new(None),
            state: watch::Sender::default(),
            first: watch::Sender::new(None),
            failed: Notify::new(),
            told: Mutex::default(),
            role,
            params,
        });
        inner.show(false);
        inner.params.tasks.spawn(inner.clone().run());
        Self(inner)
    }

    pub fn role(&self) -> &R {
        &self.0.role
    }

    /// The session, if the connection is up.
    pub fn current(&self) -> Option<Arc<R::Session>> {
        self.0.session.borrow().clone()
    }

    pub fn is_up(&self) -> bool {
        self.0.session.borrow().is_some()
    }

    /// Waits for a session. Cancel-safe. Never returns once the link was stopped: wait for your own stop beside it.
    pub async fn up(&self) -> Arc<R::Session> {
        let mut sessions = self.0.session.subscribe();
        loop {
            if let Ok(session) = sessions.wait_for(Option::is_some).await
                && let Some(session) = session.clone()
            {
                return session;
            }
            // The sender lives as long as `self`, so this is never reached.
            std::future::pending::<()>().await;
        }
    }

    /// Gives `session` up: everything on its connection ends, and a new one is made. Does nothing if it is not the
    /// current one any more.
    pub fn failed(&self, session: &Arc<R::Session>, why: impl Into<String>) {
        let mine = self.0.session.send_if_modified(|current| {
            let mine = current.as_ref().is_some_and(|c| Arc::ptr_eq(c, session));
            if mine {
                let why = why.into();
                *current = None;
                let mut told = self.0.told();
                told.trouble = Some(why.clone());
                told.failure = Some(why);
            }
            mine
        });
        if mine {
            self.0.failed.notify_one();
        }
    }

    /// `Err` says what is wrong, in words for an operator.
    pub fn health(&self) -> Result<(), String> {
        let up = self.0.session.borrow().is_some();
        let told = self.0.told();
        match (up, &told.blocked, &told.trouble) {
            (true, None, _) => Ok(()),
            (true, Some(why), _) => Err(format!("RabbitMQ takes no messages now ({why})")),
            (false, _, Some(why)) => Err(why.clone()),
            (false, _, None) => Err("not connected to RabbitMQ yet".to_owned()),
        }
    }

    /// The broker is short of memory or disk and reads nothing from publishers.
    pub fn is_blocked(&self) -> bool {
        self.0.told().blocked.is_some()
    }

    pub fn changes(&self) -> watch::Receiver<LinkState> {
        self.0.state.subscribe()
    }

    /// How the first try ended; `None` when it still runs after `limit`.
    pub async fn first_try(&self, limit: Duration) -> Option<Result<(), LinkError>> {
        let mut first = self.0.first.subscribe();
        let ended = timeout(limit, first.wait_for(Option::is_some)).await;
        ended.ok()?.ok().and_then(|ended| ended.clone())
    }

    /// Ends the link, with a goodbye if the broker listens.
    pub async fn close(&self) {
        self.0.params.stop.cancel();
        // The supervisor is gone when it has taken the session back and said so.
        let mut state = self.0.state.subscribe();
        let _ = timeout(OPEN, state.wait_for(|s| s.generation == u64::MAX)).await;
    }
}

/// Why a connection is not watched any more.
enum End {
    Stopped,
    Trouble(LinkError),
}

impl<R: Role> Inner<R> {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, up: bool) {
        self.params.metrics.broker_connected.get_or_create(&m::ByRole::new(self.role.name())).set(i64::from(up));
    }

    async fn run(self: Arc<Self>) {
        let mut outage = Outage::new(
            format!("The connection to RabbitMQ ({})", self.role.name()),
            Backoff::new(BACKOFF.0, BACKOFF.1),
        );
        loop {
            let trouble = tokio::select! {
                biased;
                () = self.params.stop.cancelled() => break,
                made = self.connect() => match made {
                    Ok((live, session)) => {
                        match self.serve(&live, session, &mut outage).await {
                            End::Stopped => {
                                live.close().await;
                                break;
                            }
                            End::Trouble(e) => e,
                        }
                    }
                    Err(e) => e,
                },
            };
            self.note(&trouble);
            let pause = outage.failed(&trouble);
            let stopped = timeout(pause, self.params.stop.cancelled()).await.is_ok();
            if stopped {
                break;
            }
        }
        self.state.send_replace(LinkState { up: false, generation: u64::MAX });
    }

    /// Keeps why there is no session. A mismatch won't go away by itself, so it is told of whenever it first appears.
    fn note(&self, trouble: &LinkError) {
        let text = trouble.to_string();
        let news = self.told().trouble.replace(text.clone()).is_none_or(|before| before != text);
        if news && trouble.is_mismatch() {
            tracing::error!("{text}");
        }
        self.first.send_if_modified(|first| first.is_none() && first.replace(Err(trouble.clone())).is_none());
    }

    async fn connect(&self) -> Result<(Live, R::Session), LinkError> {
        let name = format!("{} {}", self.params.name, self.role.name());
        let live = Live::open(&self.params.broker, &name).await?;
        match timeout(OPEN, self.role.open(&live.connection)).await {
            Ok(Ok(session)) => Ok((live, session)),
            Ok(Err(e)) => {
                live.close().await;
                Err(e)
            }
            Err(_) => Err(LinkError::Lost(format!("RabbitMQ did not set up in {} s what we need", OPEN.as_secs()))),
        }
    }

    /// Lends the session out until something is wrong with it.
    async fn serve(&self, live: &Live, session: R::Session, outage: &mut Outage) -> End {
        let session = Arc::new(session);
        *self.told() = Told::default();
        // Subscribed before anybody can use the connection, so that its end is not missed.
        let lost = self.lost(&live.connection);
        self.state.send_modify(|s| {
            // In here, so that nobody sees one of the two without the other.
            self.session.send_replace(Some(session.clone()));
            *s = LinkState { up: true, generation: s.generation + 1 };
        });
        self.show(true);
        outage.over();
        self.first.send_if_modified(|first| first.is_none() && first.replace(Ok(())).is_none());

        let end = tokio::select! {
            biased;
            () = self.params.stop.cancelled() => End::Stopped,
            why = self.given_up() => End::Trouble(LinkError::Lost(why)),
            why = lost => End::Trouble(LinkError::Lost(why)),
            why = self.probing(&live.connection, &session) => End::Trouble(LinkError::Lost(why)),
        };
        self.state.send_modify(|s| {
            self.session.send_replace(None);
            s.up = false;
        });
        self.told().blocked = None;
        self.show(false);
        end
    }

    async fn given_up(&self) -> String {
        loop {
            self.failed.notified().await;
            // Without a reason it was said of an earlier session.
            if let Some(why) = self.told().failure.take() {
                return why;
            }
        }
    }

    /// Returns when lapin says, or shows, that the connection has ended. Keeps the broker's word on blocking.
    fn lost(&self, connection: &Arc<Connection>) -> impl Future<Output = String> {
        let (mut events, connection) = (connection.events_listener(), connection.clone());
        async move {
            let mut why = "the connection ended".to_owned();
            while connection.status().connected() {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = tokio::time::sleep(LOOK_EVERY) => continue,
                };
                match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(reason, "RabbitMQ takes no messages from us now ({reason})");
                        self.told().blocked = Some(reason);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!("RabbitMQ takes messages from us again");
                        self.told().blocked = None;
                    }
                    Some(Event::Error(e)) => why = error::plain(&e),
                    Some(_) => {}
                    None => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
            why
        }
    }

    async fn probing(&self, connection: &Arc<Connection>, session: &R::Session) -> String {
        loop {
            tokio::time::sleep(PROBE_EVERY).await;
            // A blocked connection is not read from by the broker; heartbeats still show whether it lives.
            if connection.status().blocked() {
                continue;
            }
            match timeout(PROBE, self.role.probe(connection, session)).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return format!("a probe failed: {e}"),
                // Blocked while the probe was under way.
                Err(_) if connection.status().blocked() => {}
                Err(_) => return format!("RabbitMQ did not answer a probe within {} s", PROBE.as_secs()),
            }
        }
    }
}
