//! The writers: each owns one connection that writes, and a commit takes what gathered while the last one ran.
//!
//! SQLite has one, PostgreSQL a few; they share one queue, and groups that change one feed keep its order (`lines`). A group is one transaction. When any of it fails it is rolled
//! back and run again one by one, so that a bad row costs only itself; a group that met another transaction's locks is first
//! run again as it is. Whatever a commit changed is told to the sink before its callers are answered; a caller that went
//! away changes neither.

use super::{
    error::{self, Shared, failed},
    group::{Group, Work},
    lines::{Lines, Place},
    statement::Conn,
    tx::Tx,
};
use crate::observe::{Metrics, metrics as m};
use async_trait::async_trait;
use campanile_model::{
    effects::Effects,
    ports::{EffectSink, StoreError, StoreResult},
};
use futures_util::FutureExt as _;
use sqlx::{Connection as _, PgConnection, Postgres, Sqlite, SqliteConnection};
use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Rows of one commit.
pub const GROUP_ROWS: usize = 2_000;

/// How often a group that met another transaction's locks is run again whole.
const CONTENTIONS: u32 = 5;

/// A connection that fails sooner than this was dead before: another one is opened for the same work.
pub const STALE: Duration = Duration::from_millis(500);

pub enum Message {
    Work(Box<Work>),
    /// Takes nothing new, finishes what came before it, closes.
    Close,
}

/// A connection that writes.
pub enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// How a writer comes by its connection.
#[async_trait]
pub trait Opener: Send + Sync + 'static {
    async fn open(&self) -> StoreResult<Link>;
    /// Checkpoints where there is something to.
    async fn close(&self, link: Link);
    /// How long a transaction may take in all, the connection's opening included, before the server counts as silent.
    fn limit(&self) -> Option<Duration>;
}

/// What waits for a writer.
pub struct Inbox {
    queue: mpsc::Receiver<Message>,
    /// Found to be too much for a group that had begun: the next one begins with it, whoever's it is.
    left: Option<Box<Work>>,
}

impl Inbox {
    pub fn new(queue: mpsc::Receiver<Message>) -> Self {
        Self { queue, left: None }
    }
}

pub struct Writer {
    pub opener: Arc<dyn Opener>,
    /// Held while a group gathers, never while it commits.
    pub inbox: Arc<Mutex<Inbox>>,
    /// `None`: there is no other writer.
    pub lines: Option<Arc<Lines>>,
    pub sink: Arc<dyn EffectSink>,
    pub metrics: Arc<Metrics>,
    pub clock_offset: Arc<AtomicI64>,
    /// `None` after a fault of the connection: the next group opens another.
    pub link: Option<Link>,
    pub turns: Arc<Turns>,
    /// From the last COMMIT until it is told.
    pub turn: Option<Turn>,
}

/// Commits are told in their order: a turn is taken while the transaction still holds its feeds, so of two that change one
/// feed the earlier one has the earlier turn, and a socket sees no later seq first.
#[derive(Default)]
pub struct Turns(std::sync::Mutex<Option<oneshot::Receiver<()>>>);

pub struct Turn {
    before: Option<oneshot::Receiver<()>>,
    done: oneshot::Sender<()>,
}

impl Turns {
    fn take(&self) -> Turn {
        let (done, after) = oneshot::channel();
        let before = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(after);
        Turn { before, done }
    }
}

impl Turn {
    /// Waits for the turns before; this one ends when what comes back is dropped.
    async fn come(self) -> oneshot::Sender<()> {
        if let Some(before) = self.before {
            let _ = before.await;
        }
        self.done
    }
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
        while let Some((group, place)) = self.gather().await {
            if let Some(place) = &place {
                place.come().await;
            }
            self.commit(group).await;
            drop(place);
        }
        if let Some(link) = self.link.take() {
            self.opener.close(link).await;
        }
    }

    /// What waits now, and its place among the other writers' groups; `None` when the store is closed and nothing waits any
    /// more.
    async fn gather(&self) -> Option<(Group, Option<Place>)> {
        let mut inbox = self.inbox.lock().await;
        let first = loop {
            if let Some(work) = inbox.left.take() {
                break work;
            }
            match inbox.queue.recv().await? {
                Message::Work(work) => break work,
                Message::Close => inbox.queue.close(),
            }
        };
        let mut rows = first.rows();
        let alone = first.is_alone();
        let mut group = Group::of(*first);
        while rows < GROUP_ROWS && !alone {
            match inbox.queue.try_recv() {
                Ok(Message::Work(work)) if rows + work.rows() <= GROUP_ROWS && !work.is_alone() => {
                    rows += work.rows();
                    group.add(*work);
                }
                Ok(Message::Work(work)) => {
                    inbox.left = Some(work);
                    break;
                }
                Ok(Message::Close) => inbox.queue.close(),
                Err(_) => break,
            }
        }
        // Before the next writer may gather.
        let place = self.lines.as_ref().map(|lines| lines.join(group.users()));
        Some((group, place))
    }

    /// One transaction, or as many as there are items when one of them is bad.
    async fn commit(&mut self, group: Group) {
        let mut left = VecDeque::from([(group, CONTENTIONS)]);
        while let Some((mut group, tries)) = left.pop_front() {
            let (reused, started) = (self.link.is_some(), Instant::now());
            let outcome = self.attempt(&mut group).await;
            // Until what is said below has been said, nobody who committed later speaks.
            let _spoken = match self.turn.take() {
                Some(turn) => Some(turn.come().await),
                None => None,
            };
            match outcome {
                Ok(effects) => {
                    self.metrics.db_commit_size.observe(group.callers() as f64);
                    self.sink.committed(effects).await;
                    group.answer();
                }
                Err(Failed::Item(e)) if tries > 0 && error::is_contention(&e) => {
                    tracing::debug!(error = %e, writes = group.callers(), "Another transaction was in the way; trying again");
                    left.push_front((group, tries - 1));
                }
                Err(Failed::Item(e)) if group.callers() == 1 => group.fail(&Shared(Arc::new(e)), Shared::only),
                Err(Failed::Item(_)) => left.extend(group.split().into_iter().map(|alone| (alone, CONTENTIONS))),
                // A connection that died while it was idle says so at once, and nothing has been committed.
                Err(Failed::Database(_)) if reused && started.elapsed() < STALE => {
                    self.link = None;
                    left.push_front((group, tries));
                }
                Err(Failed::Database(e)) => {
                    tracing::error!(error = %e, writes = group.callers(), "The database refused a commit's work");
                    self.link = None;
                    group.fail(&Shared(Arc::new(e)), Shared::unavailable);
                }
                Err(Failed::Commit(e)) => {
                    tracing::error!(error = %e, writes = group.callers(), "The outcome of a commit is not known");
                    self.link = None;
                    group.fail(&Shared(Arc::new(e)), Shared::commit_unknown);
                }
            }
        }
    }

    async fn attempt(&mut self, group: &mut Group) -> Result<Effects, Failed> {
        let limit = self.opener.limit();
        let mut link = match self.link.take() {
            Some(link) => link,
            None => match limit {
                Some(limit) => tokio::time::timeout(limit, self.opener.open())
                    .await
                    .unwrap_or_else(|_| Err(silent(limit)))
                    .map_err(Failed::Database)?,
                None => self.opener.open().await.map_err(Failed::Database)?,
            },
        };
        let offset = self.clock_offset.load(Ordering::Relaxed);
        // A caller on its way to COMMIT can't know what became of it when time is up.
        let mut turn = None;
        let transaction = async {
            match &mut link {
                Link::Sqlite(conn) => sqlite(conn, group, &self.metrics, offset, &mut turn, &self.turns).await,
                Link::Postgres(conn) => postgres(conn, group, &self.metrics, offset, &mut turn, &self.turns).await,
            }
        };
        let outcome = AssertUnwindSafe(async {
            match limit {
                Some(limit) => tokio::time::timeout(limit, transaction).await.ok(),
                None => Some(transaction.await),
            }
        })
        .catch_unwind()
        .await;
        match outcome {
            Ok(Some(outcome)) => {
                self.link = Some(link);
                self.turn = turn;
                outcome
            }
            Ok(None) => {
                // Dropped as it is, without a word to a server that does not listen.
                drop(link);
                let e = silent(limit.unwrap_or_default());
                self.turn = turn;
                Err(if self.turn.is_some() { Failed::Commit(e) } else { Failed::Database(e) })
            }
            Err(_) => {
                // The connection was left in the middle of something; a new one knows nothing of it.
                drop(link);
                self.metrics.panics.get_or_create(&m::ByReason::new("store_writer")).inc();
                Err(Failed::Item(StoreError::Statement { what: "a write", source: "it panicked".into() }))
            }
        }
    }
}

fn silent(limit: Duration) -> StoreError {
    StoreError::Unavailable(format!("the database gave no answer within {limit:?}").into())
}

async fn sqlite(
    conn: &mut SqliteConnection,
    group: &mut Group,
    metrics: &Metrics,
    clock_offset: i64,
    turn: &mut Option<Turn>,
    turns: &Turns,
) -> Result<Effects, Failed> {
    // IMMEDIATE: a read that turns into a write would fail with BUSY_SNAPSHOT at once.
    let mut transaction: sqlx::Transaction<'_, Sqlite> =
        conn.begin_with("BEGIN IMMEDIATE").await.map_err(|e| Failed::Database(StoreError::Unavailable(Box::new(e))))?;
    let effects = work(Conn::Sqlite(&mut transaction), group, metrics, clock_offset).await?;
    *turn = Some(turns.take());
    let started = Instant::now();
    transaction.commit().await.map_err(|e| Failed::Commit(StoreError::Unavailable(Box::new(e))))?;
    committed(group, metrics, started);
    Ok(effects)
}

async fn postgres(
    conn: &mut PgConnection,
    group: &mut Group,
    metrics: &Metrics,
    clock_offset: i64,
    turn: &mut Option<Turn>,
    turns: &Turns,
) -> Result<Effects, Failed> {
    let mut transaction: sqlx::Transaction<'_, Postgres> =
        conn.begin().await.map_err(|e| Failed::Database(StoreError::Unavailable(Box::new(e))))?;
    let effects = work(Conn::Postgres(&mut transaction), group, metrics, clock_offset).await?;
    *turn = Some(turns.take());
    let started = Instant::now();
    transaction.commit().await.map_err(commit_failed)?;
    committed(group, metrics, started);
    Ok(effects)
}

/// A COMMIT that the server answered with an error did not happen; one without an answer may have.
fn commit_failed(e: sqlx::Error) -> Failed {
    match e {
        sqlx::Error::Database(_) => sort(failed("committing")(e)),
        e => Failed::Commit(StoreError::Unavailable(Box::new(e))),
    }
}

async fn work(conn: Conn<'_>, group: &mut Group, metrics: &Metrics, clock_offset: i64) -> Result<Effects, Failed> {
    let mut tx = Tx::start(conn, clock_offset).await.map_err(sort)?;
    group.run(&mut tx, metrics).await.map_err(sort)?;
    tx.flush_users().await.map_err(sort)?;
    group.reached_before_commit();
    Ok(tx.effects)
}

fn committed(group: &Group, metrics: &Metrics, started: Instant) {
    metrics.db_query.get_or_create(&m::ByQuery::new("commit")).observe(started.elapsed().as_secs_f64());
    group.reached_after_commit();
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
