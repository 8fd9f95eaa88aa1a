//! Our own small pool. lettre's hands a half-used connection to the next mail when a send is cancelled, and a mail the
//! server refused is then reported as sent; here a connection is poisoned by default and comes back only in step.
//!
//! A send runs in a task of its own, so that the caller's cancellation can't cut a dialogue. Only the wait for a
//! connection belongs to the caller.

use crate::{
    dialogue::{Budget, Connection, Dialler, Fault, Phase, Phases},
    message::Mail,
    reply,
    wire::Reply,
};
use campanile_plugin::{DeliveryError, Permission, Reason};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

/// Relays close older connections on their side, in the middle of ours.
const AGE_MAX: Duration = Duration::from_mins(5);
const IDLE_MAX: Duration = Duration::from_secs(20);
const MAILS_MAX: u32 = 100;

pub struct Pool {
    inner: Arc<Inner>,
    sends: TaskTracker,
}

struct Inner {
    dialler: Dialler,
    phases: Phases,
    slots: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Newest last, and taken first.
    connections: Vec<(Connection, Instant)>,
    reaping: bool,
    closed: bool,
}

/// How a send asks its caller whether it may still go on.
type Ask = mpsc::Sender<oneshot::Sender<bool>>;

impl Pool {
    pub fn new(dialler: Dialler, phases: Phases, max_connections: usize) -> Self {
        let slots = Arc::new(Semaphore::new(max_connections));
        let inner = Inner { dialler, phases, slots, idle: Mutex::default() };
        Self { inner: Arc::new(inner), sends: TaskTracker::new() }
    }

    /// Sends within `timeout`. When the caller goes away, a send before its point of no return stops, and one past it
    /// finishes its dialogue.
    pub async fn send(
        &self,
        mail: Mail,
        timeout: Duration,
        permission: &dyn Permission,
    ) -> Result<Reply, DeliveryError> {
        let until = Instant::now() + timeout;
        let Ok(Ok(slot)) = timeout_at(until, self.inner.slots.clone().acquire_owned()).await else {
            let reason = Reason::new("pool_busy", "no connection to the relay became free in time");
            return Err(DeliveryError::Throttled { after: None, reason });
        };
        let budget = Budget { phases: self.inner.phases, until };
        let (ask, mut asked) = mpsc::channel(1);
        let mut task = self.sends.spawn(run(self.inner.clone(), slot, mail, budget, ask));
        let done = loop {
            tokio::select! {
                done = &mut task => break done,
                Some(answer) = asked.recv() => { let _: Result<(), bool> = answer.send(permission.may_proceed()); }
            }
        };
        match done {
            Ok(result) => result.map_err(reply::judge),
            Err(e) => {
                // Where it stood is unknown, and so is what the server made of it.
                let reason = Reason::new("panic", format!("the send broke off: {e}")).uncertain();
                Err(DeliveryError::Retry { after: None, reason })
            }
        }
    }

    /// Lets sends under way finish, then closes what is idle.
    pub async fn stop(&self) {
        self.sends.close();
        self.sends.wait().await;
        let idle = {
            let mut idle = self.inner.idle();
            idle.closed = true;
            std::mem::take(&mut idle.connections)
        };
        for (connection, _) in idle {
            connection.quit().await;
        }
    }
}

/// A connection on loan. Dropped, it is gone; only [`Lease::give_back`] returns it, and only in step.
struct Lease {
    pool: Arc<Inner>,
    connection: Connection,
    /// Released after the connection is back or gone.
    _slot: OwnedSemaphorePermit,
}

async fn run(
    pool: Arc<Inner>,
    slot: OwnedSemaphorePermit,
    mail: Mail,
    budget: Budget,
    ask: Ask,
) -> Result<Reply, Fault> {
    let (mut connection, reused) = match pool.take_idle() {
        Some(connection) => (connection, true),
        None => (pool.dialler.connect(&budget).await?, false),
    };
    let permitted = || async {
        let (answer, answered) = oneshot::channel();
        // Nobody there to ask: the attempt was given up.
        ask.send(answer).await.is_ok() && answered.await.unwrap_or(false)
    };
    let mut result = connection.send(&mail, &budget, permitted).await;
    if reused && result.as_ref().is_err_and(died_while_idle) {
        connection = pool.dialler.connect(&budget).await?;
        result = connection.send(&mail, &budget, permitted).await;
    }
    Lease { pool, connection, _slot: slot }.give_back();
    result
}

/// The relay had closed a reused connection before this mail was begun: not this attempt's fault.
fn died_while_idle(fault: &Fault) -> bool {
    match fault {
        Fault::Lost(phase, _) | Fault::OutOfStep(phase, _) => matches!(phase, Phase::Reset | Phase::Mail),
        Fault::Refused(Phase::Reset, _) => true,
        Fault::Refused(Phase::Mail, reply) => reply.code == 421,
        _ => false,
    }
}

impl Lease {
    fn give_back(self) {
        let c = &self.connection;
        if !c.is_reusable() {
            return;
        }
        if c.age() >= AGE_MAX || c.mails() >= MAILS_MAX {
            tokio::spawn(self.connection.quit());
            return;
        }
        let mut idle = self.pool.idle();
        if idle.closed {
            return;
        }
        idle.connections.push((self.connection, Instant::now()));
        if !std::mem::replace(&mut idle.reaping, true) {
            tokio::spawn(reap(Arc::downgrade(&self.pool)));
        }
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some((mut connection, since)) = idle.connections.pop() {
            if since.elapsed() < IDLE_MAX && connection.age() < AGE_MAX && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }
}

/// Closes connections that nobody has used for a while; ends when there are none.
async fn reap(pool: Weak<Inner>) {
    loop {
        tokio::time::sleep(IDLE_MAX / 4).await;
        let Some(pool) = pool.upgrade() else { return };
        let old: Vec<_> = {
            let mut idle = pool.idle();
            let old = idle.connections.extract_if(.., |(_, since)| since.elapsed() >= IDLE_MAX).collect();
            idle.reaping = !idle.connections.is_empty();
            if !idle.reaping {
                drop(idle);
                drop(pool);
                quit_all(old);
                return;
            }
            old
        };
        quit_all(old);
    }
}

fn quit_all(connections: Vec<(Connection, Instant)>) {
    for (connection, _) in connections {
        tokio::spawn(connection.quit());
    }
}
