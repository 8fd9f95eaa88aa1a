//! The one writer: it owns the one connection that writes, and a commit takes what gathered while the last one ran.
//!
//! A group is one transaction. When any of it fails it is rolled back and run again one by one, so that a bad row costs
//! only itself. Whatever a commit changed is told to the sink before its callers are answered; a caller that went away
//! changes neither.

use super::{
    error::Shared,
    group::{Group, Work},
    open::{self, Settings},
    tx::Tx,
};
use crate::observe::{Metrics, metrics as m};
use campanile_model::{
    effects::Effects,
    ports::{EffectSink, StoreError, StoreResult},
};
use futures_util::FutureExt as _;
use sqlx::{Connection as _, SqliteConnection};
use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};
use tokio::sync::{mpsc, oneshot};

/// Rows of one commit.
pub const GROUP_ROWS: usize = 2_000;

pub enum Message {
    Work(Box<Work>),
    /// Finishes what came before it, checkpoints, closes.
    Close(oneshot::Sender<()>),
}

pub struct Writer {
    pub settings: Settings,
    pub inbox: mpsc::Receiver<Message>,
    pub sink: Arc<dyn EffectSink>,
    pub metrics: Arc<Metrics>,
    pub clock_offset: Arc<AtomicI64>,
    /// `None` after a fault of the connection: the next group opens another.
    pub conn: Option<SqliteConnection>,
}

enum Failed {
    /// Something in the group: alone it may succeed.
    Item(StoreError),
    /// The database itself: nobody can succeed now.
    Database(StoreError),
    Commit(StoreError),
}

impl Writer {
    pub async fn run(mut self) {
        let mut carried: Option<Box<Work>> = None;
        loop {
            let first = match carried.take() {
                Some(work) => Message::Work(work),
                None => match self.inbox.recv().await {
                    Some(message) => message,
                    None => break,
                },
            };
            let work = match first {
                Message::Work(work) => work,
                Message::Close(done) => {
                    self.close().await;
                    let _ = done.send(());
                    return;
                }
            };
            let mut closing = None;
            let mut rows = work.rows();
            let mut group = Group::of(*work);
            while rows < GROUP_ROWS && closing.is_none() {
                match self.inbox.try_recv() {
                    Ok(Message::Work(work)) if rows + work.rows() <= GROUP_ROWS => {
                        rows += work.rows();
                        group.add(*work);
                    }
                    Ok(Message::Work(work)) => {
                        carried = Some(work);
                        break;
                    }
                    Ok(Message::Close(done)) => closing = Some(done),
                    Err(_) => break,
                }
            }
            self.commit(group).await;
            if let Some(done) = closing {
                self.close().await;
                let _ = done.send(());
                return;
            }
        }
        self.close().await;
    }

    async fn close(&mut self) {
        self.inbox.close();
        if let Some(conn) = self.conn.take() {
            open::close(conn).await;
        }
    }

    /// One transaction, or as many as there are items when one of them is bad.
    async fn commit(&mut self, group: Group) {
        let mut left = VecDeque::from([group]);
        while let Some(mut group) = left.pop_front() {
            match self.attempt(&mut group).await {
                Ok(effects) => {
                    self.metrics.db_commit_size.observe(group.len() as f64);
                    self.sink.committed(effects).await;
                    group.answer();
                }
                Err(Failed::Item(e)) if group.len() == 1 => group.fail(&Shared(Arc::new(e)), Shared::only),
                Err(Failed::Item(_)) => left.extend(group.split()),
                Err(Failed::Database(e)) => {
                    tracing::error!(error = %e, writes = group.len(), "The database refused a commit's work");
                    self.conn = None;
                    group.fail(&Shared(Arc::new(e)), Shared::unavailable);
                }
                Err(Failed::Commit(e)) => {
                    tracing::error!(error = %e, writes = group.len(), "The outcome of a commit is not known");
                    self.conn = None;
                    group.fail(&Shared(Arc::new(e)), Shared::commit_unknown);
                }
            }
        }
    }

    async fn attempt(&mut self, group: &mut Group) -> Result<Effects, Failed> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => open::writer(&self.settings).await.map_err(Failed::Database)?,
        };
        let outcome =
            AssertUnwindSafe(transact(&mut conn, group, &self.metrics, self.clock_offset.load(Ordering::Relaxed)))
                .catch_unwind()
                .await;
        if let Ok(outcome) = outcome {
            self.conn = Some(conn);
            return outcome;
        }
        // The connection was left in the middle of something; a new one knows nothing of it.
        drop(conn);
        self.metrics.panics.get_or_create(&m::ByReason::new("store_writer")).inc();
        Err(Failed::Item(StoreError::Statement { what: "a write", source: "it panicked".into() }))
    }
}

async fn transact(
    conn: &mut SqliteConnection,
    group: &mut Group,
    metrics: &Metrics,
    clock_offset: i64,
) -> Result<Effects, Failed> {
    // IMMEDIATE: a read that turns into a write would fail with BUSY_SNAPSHOT at once.
    let mut transaction =
        conn.begin_with("BEGIN IMMEDIATE").await.map_err(|e| Failed::Database(StoreError::Unavailable(Box::new(e))))?;
    let mut tx = Tx::start(&mut transaction, clock_offset).await.map_err(sort)?;
    group.run(&mut tx, metrics).await.map_err(sort)?;
    tx.flush_users().await.map_err(sort)?;
    let effects = std::mem::take(&mut tx.effects);
    drop(tx);
    group.reached_before_commit();
    let started = Instant::now();
    transaction.commit().await.map_err(|e| Failed::Commit(StoreError::Unavailable(Box::new(e))))?;
    metrics.db_query.get_or_create(&m::ByQuery::new("commit")).observe(started.elapsed().as_secs_f64());
    group.reached_after_commit();
    Ok(effects)
}

fn sort(e: StoreError) -> Failed {
    match e {
        StoreError::Unavailable(_) => Failed::Database(e),
        e => Failed::Item(e),
    }
}

/// The callers' end.
#[derive(Clone)]
pub struct Writes(pub mpsc::Sender<Message>);

impl Writes {
    /// Refuses when the queue is full: for callers that can say 503.
    pub fn offer(&self, work: Work) -> StoreResult<()> {
        self.0.try_send(Message::Work(Box::new(work))).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })
    }

    /// Waits for room: for work whose outcome would be lost otherwise (finish, renewals, drains).
    pub async fn push(&self, work: Work) -> StoreResult<()> {
        self.0.send(Message::Work(Box::new(work))).await.map_err(|_| closed())
    }

    pub fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }
}

pub fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}
