//! The ports, each method one line: which operation or read serves it.

use super::{
    SqlStore, access,
    audience::{ClaimAudience, Expand, Expanded},
    audit, cancel, erase,
    feed::AuditCounts,
    group::{AcceptInput, ClaimInput, Job, MarkInput, Work},
    in_app::CompleteInApp,
    lease::{GiveBack, LapseAll, Renew, Rescue},
    merge, operate, poison, received, relay, replay, suppress,
    sweep::Sweep,
    users,
    writer::closed,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, DeliveryId, KeyId, NodeId, NotificationId, Timestamp, UserId, UserKey,
    api::{Acceptance, ShownState},
    feed::{FeedFilter, FeedPage, FeedState, MarkAs, MarkOutcome, MarkSelection, Replay, SeenByClient},
    plan::{AcceptItem, Idempotency, RecipientPlan},
    ports::*,
    user::{Contact, Resolved, User},
    work::{AudienceSlice, ClaimOutcome, Finish, Finished, RelayRow},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How long a busy idempotency key is tried again.
const KEY_BUSY: Duration = Duration::from_secs(2);
const KEY_BUSY_STEP: Duration = Duration::from_millis(20);

#[async_trait]
impl AcceptStore for SqlStore {
    async fn resolve(&self, app: &AppId, users: &[UserId]) -> StoreResult<Vec<Resolved>> {
        self.reads.resolve(app, users).await
    }

    async fn accept(&self, item: AcceptItem) -> Result<Accepted, AcceptError> {
        let item = Arc::new(item);
        let asked = Instant::now();
        loop {
            let (job, answer) =
                Job::new(AcceptInput { item: item.clone(), idempotency_ttl: self.limits.idempotency_ttl });
            self.writes.offer(Work::Accept(job))?;
            let received = async { answer.await.unwrap_or_else(|_| Err(closed().into())) };
            match self.in_time(received).await {
                // Another request with this key is on its way in another transaction.
                Err(AcceptError::KeyBusy) if asked.elapsed() < KEY_BUSY => tokio::time::sleep(KEY_BUSY_STEP).await,
                done => return done,
            }
        }
    }

    async fn answered(&self, app: &AppId, request: &Idempotency) -> StoreResult<Option<Acceptance>> {
        self.reads.answered(app, request).await
    }

    async fn claim_audience(&self, node: NodeId, limit: u32, lease: Duration) -> StoreResult<Option<AudienceSlice>> {
        if !self.reads.audience_waits().await? {
            return Ok(None);
        }
        self.write_patiently(ClaimAudience { node, limit, lease }).await
    }

    async fn expand(
        &self,
        node: NodeId,
        notification: NotificationId,
        cursor: u32,
        recipients: Vec<RecipientPlan>,
    ) -> Result<bool, AcceptError> {
        let expand = Expand { node, notification, cursor, recipients, queued: Instant::now() };
        match self.write_patiently(expand).await? {
            Expanded::Done => Ok(true),
            Expanded::Moved => Ok(false),
            Expanded::Stale => Err(AcceptError::Stale),
        }
    }
}

#[async_trait]
impl WorkStore for SqlStore {
    async fn relay_due(&self, limit: u32, skip: &[ChannelName]) -> StoreResult<Vec<RelayRow>> {
        let ids = self.reads.relay_candidates(limit, skip).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.write_patiently(relay::MoveOn { ids }).await
    }

    async fn relay_again(&self, channel: &ChannelName, limit: u32) -> StoreResult<u64> {
        self.write_patiently(relay::Again { channel: channel.clone(), limit }).await
    }

    async fn relay_failed(&self, ids: &[DeliveryId]) -> StoreResult<()> {
        self.write_patiently(relay::Failed { ids: ids.to_vec() }).await
    }

    async fn claim(&self, ids: &[DeliveryId], node: NodeId, lease: Duration) -> StoreResult<Vec<ClaimOutcome>> {
        let (job, answer) = Job::new(ClaimInput { ids: ids.to_vec(), node, lease });
        self.writes.push(Work::Claim(job)).await?;
        received(answer).await
    }

    async fn complete_in_app(&self, ids: &[DeliveryId]) -> StoreResult<u64> {
        self.write_patiently(CompleteInApp { ids: ids.to_vec() }).await
    }

    async fn renew(&self, node: NodeId, held: &[(DeliveryId, u32)], lease: Duration) -> StoreResult<Vec<DeliveryId>> {
        self.write_patiently(Renew { node, held: held.to_vec(), lease }).await
    }

    async fn finish(&self, finish: Finish) -> StoreResult<Finished> {
        let (job, answer) = Job::new(finish);
        self.writes.push(Work::Finish(job)).await?;
        received(answer).await
    }

    async fn rescue(&self, limit: u32) -> StoreResult<u64> {
        if !self.reads.lease_lapsed().await? {
            return Ok(0);
        }
        self.write_patiently(Rescue { limit }).await
    }

    async fn give_back(&self, node: NodeId, ids: Option<&[DeliveryId]>) -> StoreResult<u64> {
        self.write_patiently(GiveBack { node, ids: ids.map(<[_]>::to_vec) }).await
    }

    async fn lapse_all_leases(&self) -> StoreResult<u64> {
        self.write_patiently(LapseAll).await
    }

    async fn sweep(&self, limit: u32, max_age: Duration) -> StoreResult<u64> {
        if !self.reads.sweep_has_work(max_age).await? {
            return Ok(0);
        }
        self.write_patiently(Sweep { limit, max_age }).await
    }
}

#[async_trait]
impl FeedStore for SqlStore {
    async fn feed_state(&self, user: &UserKey) -> StoreResult<FeedState> {
        self.reads.feed_state(user).await
    }

    async fn feed_heads(&self, users: &[UserKey]) -> StoreResult<Vec<FeedState>> {
        self.reads.feed_heads(users).await
    }

    async fn feed_page(
        &self,
        user: &UserKey,
        before: Option<i64>,
        limit: u32,
        filter: FeedFilter,
    ) -> StoreResult<FeedPage> {
        self.reads.feed_page(user, before, limit, filter).await
    }

    async fn feed_replay(&self, user: &UserKey, after: i64, up_to: i64, limit: u32) -> StoreResult<Replay> {
        self.reads.feed_replay(user, after, up_to, limit).await
    }

    async fn feed_missed(&self, user: &UserKey, after: i64, up_to: i64, limit: i64) -> StoreResult<i64> {
        self.reads.feed_missed(user, after, up_to, limit).await
    }

    async fn mark(&self, user: &UserKey, what: MarkSelection, mark: MarkAs) -> StoreResult<MarkOutcome> {
        let (job, answer) = Job::new(MarkInput { user: user.clone(), what, mark });
        self.writes.offer(Work::Mark(job))?;
        self.in_time(received(answer)).await
    }

    async fn confirm_delivered(&self, seen: Vec<SeenByClient>) -> StoreResult<u64> {
        let (job, answer) = Job::new(seen);
        self.writes.push(Work::Confirm(job)).await?;
        received(answer).await
    }

    async fn audit_counts(&self, after: Option<UserKey>, limit: u32) -> StoreResult<(Option<UserKey>, u64)> {
        self.write_patiently(AuditCounts { after, limit }).await
    }
}

#[async_trait]
impl UserStore for SqlStore {
    async fn put_user(&self, key: &UserKey, contact: Contact) -> StoreResult<User> {
        self.write(users::PutUser { key: key.clone(), contact }).await
    }

    async fn get_user(&self, key: &UserKey) -> StoreResult<Option<User>> {
        self.reads.get_user(key).await
    }

    async fn set_disabled(&self, key: &UserKey, disabled: bool, actor: &Actor) -> StoreResult<bool> {
        self.write(users::SetDisabled { key: key.clone(), disabled, actor: actor.clone() }).await
    }

    async fn disabled_among(&self, users: &[UserKey]) -> StoreResult<Vec<UserKey>> {
        self.reads.disabled_among(users).await
    }

    async fn erase_user(&self, key: &UserKey, actor: &Actor) -> StoreResult<Option<Erased>> {
        self.write(erase::Erase { user: key.clone(), actor: actor.clone(), epoch: self.reads.epoch.clone() }).await
    }

    async fn merge_users(&self, from: &UserKey, into: &UserKey, actor: &Actor) -> StoreResult<Option<Merged>> {
        let (from, into) = (from.clone(), into.clone());
        self.write(merge::Merge { from, into, actor: actor.clone(), epoch: self.reads.epoch.clone() }).await
    }

    async fn unsubscribe(&self, key: &UserKey, channel: &ChannelName, notification_type: &str) -> StoreResult<()> {
        let (user, channel) = (key.clone(), channel.clone());
        let notification_type = notification_type.to_owned();
        self.write(suppress::Unsubscribe { user, channel, notification_type, actor: None }).await.map(drop)
    }

    async fn unsubscribe_target(&self, delivery: DeliveryId) -> StoreResult<Option<(UserKey, ChannelName, String)>> {
        self.reads.unsubscribe_target(delivery).await
    }

    async fn suppressions(&self, app: &AppId, after: Option<String>, limit: u32) -> StoreResult<Vec<Suppression>> {
        self.reads.suppressions(app, after, limit).await
    }

    async fn add_suppression(
        &self,
        app: &AppId,
        channel: &ChannelName,
        address: &str,
        reason: &str,
        actor: &Actor,
    ) -> StoreResult<()> {
        self.write(suppress::AddSuppression {
            app: app.clone(),
            channel: channel.clone(),
            address: address.to_owned(),
            reason: reason.to_owned(),
            actor: actor.clone(),
        })
        .await
    }

    async fn lift_suppression(&self, app: &AppId, id: &str, actor: &Actor) -> StoreResult<bool> {
        self.write(suppress::LiftSuppression { app: app.clone(), id: id.to_owned(), actor: actor.clone() }).await
    }
}

#[async_trait]
impl AccessStore for SqlStore {
    async fn create_key(&self, key: ApiKey, actor: &Actor) -> StoreResult<()> {
        self.write(access::CreateKey { key, actor: actor.clone() }).await
    }

    async fn find_key(&self, id: KeyId) -> StoreResult<Option<ApiKey>> {
        self.reads.find_key(id).await
    }

    async fn app_exists(&self, app: &AppId) -> StoreResult<bool> {
        self.reads.app_exists(app).await
    }

    async fn list_keys(&self, app: &AppId) -> StoreResult<Vec<ApiKey>> {
        self.reads.list_keys(app).await
    }

    async fn revoke_key(&self, app: &AppId, id: KeyId, actor: &Actor) -> StoreResult<bool> {
        self.write(access::RevokeKey { app: app.clone(), id, actor: actor.clone() }).await
    }

    async fn touch_keys(&self, used: &[KeyUse]) -> StoreResult<()> {
        self.write(access::TouchKeys { used: used.to_vec() }).await
    }

    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket, ttl: Duration) -> StoreResult<()> {
        self.write(access::PutTicket { hash, ticket, ttl }).await
    }

    async fn take_ticket(&self, hash: [u8; 32]) -> StoreResult<Option<Ticket>> {
        self.write(access::TakeTicket { hash }).await
    }
}

#[async_trait]
impl OperatorStore for SqlStore {
    async fn notification(
        &self,
        app: &AppId,
        id: NotificationId,
        after: Option<DeliveryId>,
    ) -> StoreResult<Option<NotificationDetail>> {
        self.reads.notification(app, id, after).await
    }

    async fn notifications(
        &self,
        filter: &NotificationFilter,
    ) -> StoreResult<Vec<(NotificationRow, Vec<(ShownState, u64)>)>> {
        self.reads.notifications(filter).await
    }

    async fn cancel(&self, app: &AppId, id: NotificationId, actor: &Actor) -> StoreResult<Option<CancelOutcome>> {
        let (target, actor) = (id.to_string(), Some(actor.clone()));
        let (found, outcome) = self.write(cancel::Cancel { app: app.clone(), ids: vec![id], target, actor }).await?;
        Ok((found > 0).then_some(outcome))
    }

    async fn dead_letters(&self, filter: &DeadFilter) -> StoreResult<Vec<DeliveryRow>> {
        self.reads.dead_letters(filter).await
    }

    async fn replay(&self, app: &AppId, id: DeliveryId, actor: &Actor) -> StoreResult<ReplayOutcome> {
        self.write(replay::ReplayDead { app: app.clone(), id, actor: actor.clone() }).await
    }

    async fn queue_stats(&self) -> StoreResult<Vec<QueueStats>> {
        self.reads.queue_stats().await
    }

    async fn pauses(&self) -> StoreResult<Vec<Pause>> {
        self.reads.pauses().await
    }

    async fn pause(
        &self,
        channel: &ChannelName,
        until: Option<Timestamp>,
        reason: Option<&str>,
        actor: &Actor,
    ) -> StoreResult<bool> {
        let reason = reason.map(str::to_owned);
        self.write(operate::SetPause { channel: channel.clone(), until, reason, actor: actor.clone() }).await
    }

    async fn resume(&self, channel: &ChannelName, actor: &Actor) -> StoreResult<bool> {
        let ended = self.write(operate::EndPause { channel: channel.clone(), actor: actor.clone() }).await?;
        self.release_held(channel).await?;
        Ok(ended)
    }

    async fn end_lapsed_pauses(&self) -> StoreResult<Vec<ChannelName>> {
        let channels = self.reads.lapsed_pauses().await?;
        let actor = Actor { who: "system".to_owned(), ..Actor::default() };
        for channel in &channels {
            self.resume(channel, &actor).await?;
        }
        Ok(channels)
    }

    async fn add_poison(&self, source: &str, raw: &[u8], reason: &str, headers: Option<&str>) -> StoreResult<()> {
        self.write_patiently(poison::AddPoison {
            source: source.to_owned(),
            raw: raw.to_vec(),
            reason: reason.to_owned(),
            headers: headers.map(str::to_owned),
        })
        .await
    }

    async fn poison(&self, before: Option<i64>, limit: u32) -> StoreResult<Vec<PoisonRow>> {
        self.reads.poison(before, limit).await
    }

    async fn note(
        &self,
        actor: &Actor,
        action: &'static str,
        target: &str,
        detail: Option<serde_json::Value>,
    ) -> StoreResult<()> {
        self.write(audit::Note { actor: actor.clone(), action, target: target.to_owned(), detail }).await
    }

    async fn audit(&self, before: Option<i64>, limit: u32) -> StoreResult<Vec<AuditRow>> {
        self.reads.audit(&AuditFilter { before, limit, ..AuditFilter::default() }).await
    }
}

#[async_trait]
impl TriageStore for SqlStore {
    async fn lanes(&self, app: &AppId, ids: &[NotificationId]) -> StoreResult<HashMap<NotificationId, Vec<Lane>>> {
        self.reads.lanes(app, ids).await
    }
    async fn state_counts(&self, app: &AppId, since: Timestamp) -> StoreResult<Vec<(ShownState, u64)>> {
        self.reads.state_counts(app, since).await
    }
    async fn whole_counts(&self, app: &AppId, since: Timestamp) -> StoreResult<HashMap<Whole, Counted>> {
        self.reads.whole_counts(app, since).await
    }
    async fn states_among(
        &self,
        filter: &NotificationFilter,
        ids: &[NotificationId],
    ) -> StoreResult<Vec<(ShownState, u64)>> {
        self.reads.states_among(filter, ids).await
    }
    async fn notification_of(&self, app: &AppId, delivery: DeliveryId) -> StoreResult<Option<NotificationId>> {
        self.reads.notification_of(app, delivery).await
    }
    async fn dead_groups(&self, which: &DeadWhich, limit: u32) -> StoreResult<Vec<DeadGroup>> {
        self.reads.dead_groups(which, limit).await
    }
    async fn dead_items(
        &self,
        which: &DeadWhich,
        before: Option<DeadPlace>,
        limit: u32,
    ) -> StoreResult<Vec<DeliveryRow>> {
        self.reads.dead_items(which, before, limit).await
    }
    async fn dead_count(&self, which: &DeadWhich, limit: u64) -> StoreResult<u64> {
        self.reads.dead_count(which, limit).await
    }
    async fn replay_many(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<ReplayOutcome>> {
        self.replay_each(app, ids, target, actor).await
    }
    async fn cancel_many(
        &self,
        app: &AppId,
        ids: &[NotificationId],
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<CancelOutcome> {
        let (app, ids, target) = (app.clone(), ids.to_vec(), target.to_owned());
        Ok(self.write(cancel::Cancel { app, ids, target, actor: actor.cloned() }).await?.1)
    }
    async fn dead_of(
        &self,
        app: &AppId,
        ids: &[NotificationId],
        after: Option<DeliveryId>,
        limit: u32,
    ) -> StoreResult<Vec<DeliveryId>> {
        self.reads.dead_of(app, ids, after, limit).await
    }
    async fn hasten(&self, app: &AppId, id: DeliveryId, actor: &Actor) -> StoreResult<bool> {
        self.write(operate::Hasten { app: app.clone(), id, actor: actor.clone() }).await
    }
    async fn dismiss(&self, app: &AppId, ids: &[DeliveryId], target: &str, actor: Option<&Actor>) -> StoreResult<u64> {
        self.set_dismissed(app, ids, target, actor, true).await
    }
    async fn move_dead(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        to: &MoveTo,
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<Moved>> {
        self.move_each(app, ids, to, target, actor).await
    }
    async fn recall(&self, app: &AppId, ids: &[DeliveryId], actor: &Actor) -> StoreResult<u64> {
        let target = format!("{} dead letters", ids.len());
        self.set_dismissed(app, ids, &target, Some(actor), false).await
    }
    async fn begin_task(&self, task: &TaskRow, actor: &Actor, detail: serde_json::Value) -> StoreResult<()> {
        self.task_begins(task, actor, detail).await
    }
    async fn beat_task(&self, id: Uuid, done: u64, skipped: u64) -> StoreResult<bool> {
        self.task_beats(id, done, skipped, false).await
    }
    async fn end_task(&self, id: Uuid) -> StoreResult<()> {
        self.task_beats(id, 0, 0, true).await.map(drop)
    }
    async fn stop_task(&self, id: Uuid, actor: &Actor) -> StoreResult<bool> {
        self.task_stops(id, actor).await
    }
    async fn tasks(&self) -> StoreResult<Vec<TaskRow>> {
        self.reads.tasks().await
    }
    async fn poison_count(&self, limit: u32) -> StoreResult<u64> {
        self.reads.poison_count(limit).await
    }
    async fn poison_message(&self, id: i64) -> StoreResult<Option<(PoisonRow, Vec<u8>)>> {
        self.reads.poison_message(id).await
    }
    async fn discard_poison(&self, id: i64, action: &'static str, actor: &Actor) -> StoreResult<bool> {
        self.write(poison::DiscardPoison { id, action, actor: actor.clone() }).await
    }
}

/// A round trip to the database may take this long before it counts as down.
const PING: Duration = Duration::from_secs(2);

#[async_trait]
impl SystemStore for SqlStore {
    async fn ping(&self) -> StoreResult<()> {
        match tokio::time::timeout(PING, self.reads.ping()).await {
            Ok(pong) => pong,
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {PING:?}").into())),
        }
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        self.reads.now().await
    }

    fn epoch(&self) -> &str {
        &self.reads.epoch
    }

    async fn shared_secret(&self, name: &'static str, fresh: &str) -> StoreResult<String> {
        self.write(access::SharedSecret { name, fresh: fresh.to_owned() }).await
    }

    fn facts(&self) -> StoreFacts {
        let (size, idle) = self.reads.connections();
        StoreFacts {
            size_bytes: (self.size)(),
            connections_in_use: size.saturating_sub(idle),
            connections_idle: idle,
            writes_waiting: self.writes.waiting() as u32,
        }
    }

    async fn retain(&self, retention: &Retention, limit: u32) -> StoreResult<bool> {
        self.retain_all(retention, limit).await
    }

    async fn close(&self) {
        self.finish_and_close().await;
    }
}
