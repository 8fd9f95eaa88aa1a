//! The bus of several nodes: local sinks first, then a broker that tells the others.
//!
//! One task owns the link: connect, prove that it carries, and on any doubt drop all of it and begin anew, for ever.
//! The proof is that our own messages come back: a link is up with the first, and one that is not back in time is a
//! dead link, however alive its connection looks. Under load every message is such a proof; a quiet node sends an empty
//! one now and then. What is not yet back also bounds what lies in the client library's buffers.
//!
//! A new link, a hole in another node's numbers: both mean that signals may have been lost, and the sinks are told.

use super::{
    NodeBus, Sinks,
    outgoing::{Batch, Limits, Outgoing},
    peers::Peers,
    wire::{Message, Packed, Packer},
};
use crate::{
    observe::{Metrics, metrics as m},
    queue::backoff::{Backoff, Outage},
};
use async_trait::async_trait;
use campanile_model::{
    NodeId,
    ports::{Bus, BusError, SignalSink},
    signal::Signal,
};
use futures_util::{StreamExt, stream::BoxStream};
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

/// How the link is treated.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A quiet link is tried this often.
    pub probe: Duration,
    /// How long an own message may take to come back.
    pub patience: Duration,
    /// How long connecting and subscribing may take.
    pub connect: Duration,
    /// Sinks are told of losses at most this often.
    pub missed: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(10),
            patience: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            missed: Duration::from_secs(1),
        }
    }
}

/// Between two tries; the jitter on the upper half makes pauses of 0.5 s up to 5 s of these.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Bytes that may be under way to the broker and back.
const IN_FLIGHT: usize = 2 * 1024 * 1024;
/// What a close may still spend on signals that wait.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A broker that repeats every message to every subscriber, the sender included.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Connects and subscribes; what is published from then on arrives.
    async fn connect(&self) -> Result<Line, BusError>;
}

/// A link that stands.
pub struct Line {
    pub outlet: Box<dyn Outlet>,
    pub incoming: BoxStream<'static, Result<Vec<u8>, BusError>>,
}

#[async_trait]
pub trait Outlet: Send {
    async fn send(&mut self, messages: Vec<Packed>) -> Result<(), BusError>;
    /// Leaves in good order, so that the broker keeps nothing of this link.
    async fn close(&mut self);
}

pub struct RemoteBus {
    link: Arc<Link>,
    transport: Mutex<Option<Box<dyn Transport>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Link {
    node: NodeId,
    pace: Pace,
    sinks: Sinks,
    outgoing: Outgoing,
    metrics: Arc<Metrics>,
    health: Mutex<Result<(), BusError>>,
    missed: Notify,
    /// Each kind of strange message is logged once.
    strange_logged: [AtomicBool; 3],
}

impl RemoteBus {
    pub fn new(node: NodeId, transport: Box<dyn Transport>, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with(node, transport, metrics, Pace::default(), Limits::default())
    }

    pub fn with(
        node: NodeId,
        transport: Box<dyn Transport>,
        metrics: Arc<Metrics>,
        pace: Pace,
        limits: Limits,
    ) -> Arc<Self> {
        let link = Link {
            node,
            pace,
            sinks: Sinks::default(),
            outgoing: Outgoing::new(limits),
            metrics,
            health: Mutex::new(Err(BusError("not connected yet".to_owned()))),
            missed: Notify::new(),
            strange_logged: Default::default(),
        };
        Arc::new(Self {
            link: Arc::new(link),
            transport: Mutex::new(Some(transport)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }
}

impl Bus for RemoteBus {
    fn publish(&self, signal: Signal) {
        self.link.sinks.tell(&signal);
        self.link.outgoing.push(signal);
    }
    fn health(&self) -> Result<(), BusError> {
        self.link.health().clone()
    }
}

#[async_trait]
impl NodeBus for RemoteBus {
    fn attach(&self, sinks: Vec<Arc<dyn SignalSink>>) {
        self.link.sinks.attach(sinks);
        let Some(transport) = self.transport.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.tasks.spawn(keep(self.link.clone(), transport, self.stop.clone()));
        self.tasks.spawn(tell_missed(self.link.clone(), self.stop.clone()));
        self.tasks.close();
    }

    async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for RemoteBus {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Keeps the link for as long as the host lives.
async fn keep(link: Arc<Link>, transport: Box<dyn Transport>, stop: CancellationToken) {
    let mut outage = Outage::new("The link to the node bus", Backoff::new(BACKOFF.0, BACKOFF.1));
    let mut packer = Packer::new(link.node);
    loop {
        let connecting = timeout(link.pace.connect, transport.connect());
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            line = connecting => match line {
                Ok(Ok(line)) => link.serve(line, &mut packer, &stop, &mut outage).await,
                Ok(Err(e)) => Err(e),
                Err(_) => Err(BusError(format!("no connection within {:?}", link.pace.connect))),
            },
        };
        let Err(why) = ended else { return };
        link.down(&why);
        let pause = outage.failed(&why);
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Tells the sinks of losses: at once, and then not again for a while.
async fn tell_missed(link: Arc<Link>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = link.missed.notified() => link.sinks.tell(&Signal::Missed),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(link.pace.missed) => {}
        }
    }
}

impl Link {
    fn health(&self) -> MutexGuard<'_, Result<(), BusError>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) {
        *self.health() = Ok(());
        self.metrics.bus_connected.set(1);
        self.missed.notify_one();
    }

    fn down(&self, why: &BusError) {
        *self.health() = Err(why.clone());
        self.metrics.bus_connected.set(0);
    }

    fn dropped(&self, reason: &'static str, n: u64) {
        if n > 0 {
            self.metrics.bus_dropped.get_or_create(&m::ByReason::new(reason)).inc_by(n);
        }
    }

    /// Runs a link until it fails, or `Ok` when the host stops.
    async fn serve(
        self: &Arc<Self>,
        mut line: Line,
        packer: &mut Packer,
        stop: &CancellationToken,
        outage: &mut Outage,
    ) -> Result<(), BusError> {
        let flight = Arc::new(Flight::default());
        let mut hearing = AbortOnDropHandle::new(tokio::spawn(hear(self.clone(), line.incoming, flight.clone())));
        let ended = {
            let mut speaking = pin!(self.speak(line.outlet.as_mut(), packer, &flight));
            let mut proven = false;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break Ok(()),
                    heard = &mut hearing => break Err(heard.unwrap_or_else(|e| BusError(e.to_string()))),
                    why = flight.overdue(self.pace.patience) => break Err(why),
                    () = flight.proven.notified(), if !proven => {
                        proven = true;
                        outage.over();
                        self.up();
                    }
                    why = &mut speaking => break Err(why),
                }
            }
        };
        if ended.is_ok() {
            let _ = timeout(LAST_WORDS, self.last_words(line.outlet.as_mut(), packer, &flight)).await;
        }
        // A dead connection must not hold up the next one.
        let _ = timeout(LAST_WORDS, line.outlet.close()).await;
        ended
    }

    /// Sends what there is and what comes, for ever. May be dropped at any point: a message that was numbered and not
    /// sent is a hole that the others notice.
    async fn speak(&self, outlet: &mut dyn Outlet, packer: &mut Packer, flight: &Flight) -> BusError {
        loop {
            flight.room().await;
            let batch = if flight.untried() {
                self.outgoing.take_now()
            } else {
                timeout(self.pace.probe, self.outgoing.take()).await.unwrap_or_default()
            };
            if let Err(e) = self.say(outlet, packer, flight, batch).await {
                return e;
            }
        }
    }

    /// What still waits, until it is back and so with everyone.
    async fn last_words(&self, outlet: &mut dyn Outlet, packer: &mut Packer, flight: &Flight) {
        while !self.outgoing.is_empty() {
            if self.say(outlet, packer, flight, self.outgoing.take_now()).await.is_err() {
                return;
            }
        }
        flight.landed().await;
    }

    async fn say(
        &self,
        outlet: &mut dyn Outlet,
        packer: &mut Packer,
        flight: &Flight,
        batch: Batch,
    ) -> Result<(), BusError> {
        let dropped = batch.dropped;
        self.dropped("overflow", dropped.overflow);
        self.dropped("expired", dropped.expired);
        if dropped.overflow + dropped.expired > 0 {
            packer.skip();
        }
        for signal in &batch.signals {
            packer.add(signal);
        }
        let messages = packer.take();
        flight.sent(&messages);
        outlet.send(messages).await
    }

    fn strange(&self, which: usize, reason: &'static str, n: u64, what: &dyn std::fmt::Display) {
        self.dropped(reason, n);
        if n > 0 && !self.strange_logged[which].swap(true, Relaxed) {
            tracing::warn!("Something on the node bus was not understood and is ignored, now and later: {what}");
        }
    }
}

/// Hears everything until the link ends. A task of its own, so that a burst from outside can't hold back what goes out.
async fn hear(
    link: Arc<Link>,
    mut incoming: BoxStream<'static, Result<Vec<u8>, BusError>>,
    flight: Arc<Flight>,
) -> BusError {
    let mut peers = Peers::default();
    loop {
        let bytes = match incoming.next().await {
            Some(Ok(bytes)) => bytes,
            Some(Err(e)) => return e,
            None => return BusError("the subscription ended".to_owned()),
        };
        match Message::read(&bytes) {
            Ok(message) if message.node == link.node => flight.back(message.number),
            Ok(message) => {
                let missing = peers.heard(message.node, message.number);
                if missing > 0 {
                    link.dropped("lost", missing);
                    link.missed.notify_one();
                }
                let strange = message.signals(|user| link.sinks.wants(user), |signal| link.sinks.tell(signal));
                link.strange(0, "malformed", strange.malformed.into(), &"a record is broken");
                link.strange(1, "unknown", strange.unknown.into(), &"a record is of a newer release");
            }
            Err(foreign) => link.strange(2, "foreign", 1, &foreign),
        }
        // The stream may have more at hand than one task should take in a go.
        tokio::task::coop::consume_budget().await;
    }
}

/// Own messages that are not back yet.
#[derive(Default)]
struct Flight {
    state: Mutex<FlightState>,
    /// Rings with every message that came back.
    landed: Notify,
    /// Rings with the first.
    proven: Notify,
}

#[derive(Default)]
struct FlightState {
    /// Number, bytes, since when.
    under_way: VecDeque<(u64, usize, Instant)>,
    bytes: usize,
    tried: bool,
    proven: bool,
}

impl Flight {
    fn state(&self) -> MutexGuard<'_, FlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing was sent yet: the link is to be tried at once.
    fn untried(&self) -> bool {
        !self.state().tried
    }

    fn sent(&self, messages: &[Packed]) {
        let (mut state, now) = (self.state(), Instant::now());
        state.tried = true;
        for message in messages {
            state.bytes += message.bytes.len();
            state.under_way.push_back((message.number, message.bytes.len(), now));
        }
    }

    /// This one came back; what went before it won't any more.
    fn back(&self, number: u64) {
        let mut state = self.state();
        let mut ours = false;
        while let Some(&(n, bytes, _)) = state.under_way.front()
            && n <= number
        {
            ours = true;
            state.under_way.pop_front();
            state.bytes -= bytes;
        }
        let first = ours && !std::mem::replace(&mut state.proven, true);
        drop(state);
        self.landed.notify_waiters();
        if first {
            self.proven.notify_one();
        }
    }

    /// Waits until `enough` of what was sent is back.
    async fn until(&self, enough: impl Fn(&FlightState) -> bool) {
        loop {
            let landed = self.landed.notified();
            if enough(&self.state()) {
                return;
            }
            landed.await;
        }
    }

    async fn room(&self) {
        self.until(|state| state.bytes < IN_FLIGHT).await;
    }

    async fn landed(&self) {
        self.until(|state| state.under_way.is_empty()).await;
    }

    /// Returns when a message has been away for too long.
    async fn overdue(&self, patience: Duration) -> BusError {
        loop {
            if self.state().under_way.front().is_some_and(|(_, _, since)| since.elapsed() > patience) {
                return BusError(format!("an own message did not come back within {patience:?}"));
            }
            sleep(patience / 10).await;
        }
    }
}
