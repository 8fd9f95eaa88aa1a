//! What shares a commit. The hot kinds run as sets: one statement per table for all of a kind; the rest one by one.

use super::{accept, claim, confirm, error::Shared, finish, mark, tx::Tx};
use crate::{
    failpoint,
    observe::{Metrics, metrics as m},
};
use async_trait::async_trait;
use campanile_model::{
    DeliveryId, NodeId, UserKey,
    feed::{MarkAs, MarkOutcome, MarkSelection, SeenByClient},
    plan::AcceptItem,
    ports::{AcceptError, Accepted, StoreError, StoreResult},
    work::{ClaimOutcome, Finish, Finished, NextStep},
};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// A write that runs alone within the group's transaction. It may run twice: a group that failed is run again.
#[async_trait]
pub trait Operation: Send + Sync + 'static {
    type Output: Send + 'static;
    /// The group of statements in `/metrics`.
    const NAME: &'static str;
    const BEFORE_COMMIT: Option<&'static str> = None;
    const AFTER_COMMIT: Option<&'static str> = None;

    /// It locks feed states that only its own reading names, so it shares no transaction: in one, all are locked at once.
    const ALONE: bool = false;

    /// About how many rows it writes.
    fn rows(&self) -> usize {
        1
    }

    /// Whose feed states it changes; they are locked before anything else of the transaction.
    fn users(&self) -> Vec<UserKey> {
        Vec::new()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Self::Output>;
}

/// One caller's item of a hot kind.
pub struct Job<I, O> {
    pub input: I,
    pub queued: Instant,
    outcome: Option<O>,
    reply: oneshot::Sender<O>,
}

impl<I, O> Job<I, O> {
    pub fn new(input: I) -> (Self, oneshot::Receiver<O>) {
        let (reply, answer) = oneshot::channel();
        (Self { input, queued: Instant::now(), outcome: None, reply }, answer)
    }

    fn answer(self) {
        if let Some(outcome) = self.outcome {
            // Nobody waits any more: the write stands all the same.
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self, outcome: O) {
        let _ = self.reply.send(outcome);
    }
}

pub struct ClaimInput {
    pub ids: Vec<DeliveryId>,
    pub node: NodeId,
    pub lease: Duration,
}

pub struct MarkInput {
    pub user: UserKey,
    pub what: MarkSelection,
    pub mark: MarkAs,
}

pub struct AcceptInput {
    /// Shared with the caller, who sends it again while its idempotency key is busy.
    pub item: Arc<AcceptItem>,
    pub idempotency_ttl: Duration,
}

pub type AcceptJob = Job<AcceptInput, Result<Accepted, AcceptError>>;
pub type ClaimJob = Job<ClaimInput, StoreResult<Vec<ClaimOutcome>>>;
pub type FinishJob = Job<Finish, StoreResult<Finished>>;
pub type MarkJob = Job<MarkInput, StoreResult<MarkOutcome>>;
pub type ConfirmJob = Job<Vec<SeenByClient>, StoreResult<u64>>;

pub enum Work {
    Accept(AcceptJob),
    Claim(ClaimJob),
    Finish(FinishJob),
    Mark(MarkJob),
    Confirm(ConfirmJob),
    Other(Box<dyn AnyOperation>),
}

impl Work {
    pub fn operation<O: Operation>(operation: O) -> (Self, oneshot::Receiver<StoreResult<O::Output>>) {
        let (reply, answer) = oneshot::channel();
        (Self::Other(Box::new(Pending { operation, outcome: None, reply })), answer)
    }

    pub fn rows(&self) -> usize {
        match self {
            Self::Accept(job) => accept::rows(&job.input.item),
            Self::Claim(job) => job.input.ids.len(),
            Self::Finish(_) => 2,
            Self::Mark(job) => match &job.input.what {
                MarkSelection::Ids(ids) => ids.len(),
                MarkSelection::UpToSeq(_) => 100,
            },
            Self::Confirm(job) => job.input.len(),
            Self::Other(operation) => operation.rows(),
        }
    }
}

impl Work {
    pub fn is_alone(&self) -> bool {
        matches!(self, Self::Other(operation) if operation.is_alone())
    }
}

#[derive(Default)]
pub struct Group {
    accepts: Vec<AcceptJob>,
    claims: Vec<ClaimJob>,
    finishes: Vec<FinishJob>,
    marks: Vec<MarkJob>,
    confirms: Vec<ConfirmJob>,
    others: Vec<Box<dyn AnyOperation>>,
}

impl Group {
    pub fn of(work: Work) -> Self {
        let mut group = Self::default();
        group.add(work);
        group
    }

    pub fn add(&mut self, work: Work) {
        match work {
            Work::Accept(job) => self.accepts.push(job),
            Work::Claim(job) => self.claims.push(job),
            Work::Finish(job) => self.finishes.push(job),
            Work::Mark(job) => self.marks.push(job),
            Work::Confirm(job) => self.confirms.push(job),
            Work::Other(operation) => self.others.push(operation),
        }
    }

    /// Callers who share it.
    pub fn callers(&self) -> usize {
        self.accepts.len()
            + self.claims.len()
            + self.finishes.len()
            + self.marks.len()
            + self.confirms.len()
            + self.others.len()
    }

    /// Everyone alone.
    pub fn split(self) -> Vec<Self> {
        let mut out = Vec::with_capacity(self.callers());
        out.extend(self.others.into_iter().map(|o| Self::of(Work::Other(o))));
        out.extend(self.finishes.into_iter().map(|j| Self::of(Work::Finish(j))));
        out.extend(self.claims.into_iter().map(|j| Self::of(Work::Claim(j))));
        out.extend(self.marks.into_iter().map(|j| Self::of(Work::Mark(j))));
        out.extend(self.confirms.into_iter().map(|j| Self::of(Work::Confirm(j))));
        out.extend(self.accepts.into_iter().map(|j| Self::of(Work::Accept(j))));
        out
    }

    /// Whose feed states it is known to change.
    pub fn users(&self) -> BTreeSet<UserKey> {
        let mut users: BTreeSet<UserKey> = self.others.iter().flat_map(|o| o.users()).collect();
        users.extend(self.marks.iter().map(|job| job.input.user.clone()));
        users.extend(self.accepts.iter().flat_map(|job| accept::users(&job.input.item)));
        users
    }

    /// Callers of one group wait side by side, so the order of kinds is free; within a kind it is the order of arrival.
    pub async fn run(&mut self, tx: &mut Tx<'_>, metrics: &Metrics) -> StoreResult<()> {
        tx.load_users(&self.users().into_iter().collect::<Vec<_>>()).await?;
        for operation in &mut self.others {
            let started = Instant::now();
            operation.run(tx).await?;
            observe(metrics, operation.name(), started);
        }
        macro_rules! set {
            ($jobs:ident, $module:ident) => {
                if !self.$jobs.is_empty() {
                    let started = Instant::now();
                    let outcomes = Box::pin($module::run(tx, &self.$jobs)).await?;
                    for (job, outcome) in self.$jobs.iter_mut().zip(outcomes) {
                        job.outcome = Some(outcome);
                    }
                    observe(metrics, stringify!($module), started);
                }
            };
        }
        set!(finishes, finish);
        set!(claims, claim);
        set!(marks, mark);
        set!(confirms, confirm);
        set!(accepts, accept);
        Ok(())
    }

    pub fn answer(self) {
        self.others.into_iter().for_each(AnyOperation::answer);
        self.finishes.into_iter().for_each(Job::answer);
        self.claims.into_iter().for_each(Job::answer);
        self.marks.into_iter().for_each(Job::answer);
        self.confirms.into_iter().for_each(Job::answer);
        self.accepts.into_iter().for_each(Job::answer);
    }

    pub fn fail(self, error: &Shared, say: fn(&Shared) -> StoreError) {
        self.others.into_iter().for_each(|o| o.fail(say(error)));
        self.finishes.into_iter().for_each(|j| j.fail(Err(say(error))));
        self.claims.into_iter().for_each(|j| j.fail(Err(say(error))));
        self.marks.into_iter().for_each(|j| j.fail(Err(say(error))));
        self.confirms.into_iter().for_each(|j| j.fail(Err(say(error))));
        self.accepts.into_iter().for_each(|j| j.fail(Err(say(error).into())));
    }

    pub fn reached_before_commit(&self) {
        self.accepts.iter().for_each(|_| failpoint::reached("accept.before_commit"));
        for job in &self.finishes {
            if matches!(job.input.next, NextStep::RetryIn { .. }) {
                failpoint::reached("retry.before_commit");
            }
            failpoint::reached("finish.before_commit");
        }
        self.others.iter().filter_map(|o| o.before_commit()).for_each(failpoint::reached);
    }

    pub fn reached_after_commit(&self) {
        self.accepts.iter().for_each(|_| failpoint::reached("accept.after_commit"));
        self.claims.iter().for_each(|_| failpoint::reached("claim.after_commit"));
        self.finishes.iter().for_each(|_| failpoint::reached("finish.after_commit"));
        self.marks.iter().for_each(|_| failpoint::reached("mark.after_commit"));
        self.others.iter().filter_map(|o| o.after_commit()).for_each(failpoint::reached);
    }
}

fn observe(metrics: &Metrics, name: &'static str, started: Instant) {
    metrics.db_query.get_or_create(&m::ByQuery::new(name)).observe(started.elapsed().as_secs_f64());
}

/// An [`Operation`] with its caller, whatever its output.
#[async_trait]
pub trait AnyOperation: Send {
    fn name(&self) -> &'static str;
    fn rows(&self) -> usize;
    fn is_alone(&self) -> bool;
    fn users(&self) -> Vec<UserKey>;
    fn before_commit(&self) -> Option<&'static str>;
    fn after_commit(&self) -> Option<&'static str>;
    async fn run(&mut self, tx: &mut Tx<'_>) -> StoreResult<()>;
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: StoreError);
}

struct Pending<O: Operation> {
    operation: O,
    outcome: Option<O::Output>,
    reply: oneshot::Sender<StoreResult<O::Output>>,
}

#[async_trait]
impl<O: Operation> AnyOperation for Pending<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn rows(&self) -> usize {
        self.operation.rows()
    }
    fn is_alone(&self) -> bool {
        O::ALONE
    }
    fn users(&self) -> Vec<UserKey> {
        self.operation.users()
    }
    fn before_commit(&self) -> Option<&'static str> {
        O::BEFORE_COMMIT
    }
    fn after_commit(&self) -> Option<&'static str> {
        O::AFTER_COMMIT
    }
    async fn run(&mut self, tx: &mut Tx<'_>) -> StoreResult<()> {
        self.outcome = Some(self.operation.run(tx).await?);
        Ok(())
    }
    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            let _ = self.reply.send(Ok(outcome));
        }
    }
    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}
