//! A dead letter goes by another channel: a new delivery of the same notification to the same person, and the dead one out
//! of sight. One transaction, so that neither both nor none of them is left.

use super::{
    SqlStore, audit,
    group::Operation,
    place::{Known, Placer},
    replay::{self, Way},
    rows::{Cells, json_ids},
    statement::{by_engine, sql},
    tx::{Tx, user_key},
};
use async_trait::async_trait;
use campanile_model::{
    AppId, DeliveryId, Notification, UserKey,
    plan::{DeliveryPlan, RecipientPlan},
    ports::{Actor, MoveTo, Moved, StoreResult},
    state::reason,
};
use serde_json::json;
use std::{sync::Arc, time::Instant};

struct MoveDead {
    app: AppId,
    ids: Vec<DeliveryId>,
    to: MoveTo,
    target: String,
    actor: Option<Actor>,
    queued: Instant,
}

#[async_trait]
impl Operation for MoveDead {
    type Output = Vec<Moved>;
    const NAME: &'static str = "move";
    // Whose feeds it writes to is known only after a look at the deliveries.
    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.ids.len() * 3
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Vec<Moved>> {
        let people = self.people(tx).await?;
        tx.load_users(&people).await?;
        // In the order of their ids, as all who lock deliveries do.
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_by_key(|i| self.ids[*i]);
        let mut outcomes: Vec<Moved> = self.ids.iter().map(|_| Moved::NotFound).collect();
        let mut plans: Vec<(Arc<Notification>, RecipientPlan)> = Vec::new();
        let mut gone: Vec<DeliveryId> = Vec::new();
        for i in order {
            match self.plan(tx, self.ids[i], &plans).await? {
                None => {}
                Some(Err(why)) => outcomes[i] = Moved::Refused(why),
                Some(Ok((n, plan))) => {
                    outcomes[i] = Moved::To(plan.deliveries[0].id);
                    gone.push(self.ids[i]);
                    plans.push((n, plan));
                }
            }
        }
        self.place(tx, &plans).await?;
        self.put_away(tx, &gone).await?;
        if let Some(actor) = &self.actor {
            let skipped = self.ids.len() - gone.len();
            let detail = json!({"channel": self.to.channel, "moved": gone.len(), "skipped": skipped});
            audit::append(tx, actor, "delivery.move", &self.target, Some(detail)).await?;
        }
        Ok(outcomes)
    }
}

impl MoveDead {
    /// Whose they are.
    async fn people(&self, tx: &mut Tx<'_>) -> StoreResult<Vec<UserKey>> {
        let rows = tx
            .fetch(
                "whose dead letters these are",
                by_engine(
                    "SELECT DISTINCT user_id FROM deliveries
                     WHERE app = $1 AND id IN (SELECT unhex(value) FROM json_each($2))",
                    "SELECT DISTINCT user_id FROM deliveries
                     WHERE app = $1 AND id IN (SELECT value::uuid FROM jsonb_array_elements_text($2::jsonb))",
                )
                .bind(self.app.as_str())
                .bind(json_ids(self.ids.iter().map(|id| id.0))),
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(UserKey { app: self.app.clone(), user: Cells::of("deliveries", row).text("user_id")?.into() })
            })
            .collect()
    }

    /// The delivery in its place, or why there is none; `None`: there is no such dead letter.
    async fn plan(
        &self,
        tx: &mut Tx<'_>,
        id: DeliveryId,
        planned: &[(Arc<Notification>, RecipientPlan)],
    ) -> StoreResult<Option<Result<(Arc<Notification>, RecipientPlan), &'static str>>> {
        let Some(row) = replay::known(tx, &self.app, id).await? else { return Ok(None) };
        let c = Cells::of("deliveries", &row);
        if !tx.has_user(&c.user()?) {
            // Somebody else's by now: a merge came between.
            return Ok(Some(Err(reason::MERGED)));
        }
        let way = Way { channel: self.to.channel.clone(), in_app: self.to.in_app, inline: false };
        let recipient = match replay::revivable(tx, c, &way).await? {
            Ok(recipient) => recipient,
            Err(why) => return Ok(Some(Err(why))),
        };
        if c.flag("dismissed")? {
            return Ok(Some(Err("put_aside")));
        }
        // Its time has come, and what collapsed with it was judged above.
        let mut n = Arc::unwrap_or_clone(c.notification("notification_id")?);
        (n.send_at, n.collapse_key) = (None, None);
        let user = c.user()?;
        let twin = planned.iter().any(|(m, plan)| m.id == n.id && plan.user_id == user.user);
        if twin || self.is_there(tx, &n, &user).await? {
            return Ok(Some(Err("already_by_that_channel")));
        }
        let generation = tx.user(&user_key(&n.app, &user.user))?.generation;
        let delivery = DeliveryPlan {
            id: DeliveryId::new(),
            channel: self.to.channel.clone(),
            recipient,
            recipient_inline: false,
            in_app: self.to.in_app,
            suppressed: None,
            fast: !self.to.in_app,
        };
        Ok(Some(Ok((Arc::new(n), RecipientPlan { user_id: user.user, generation, deliveries: vec![delivery] }))))
    }

    /// This person has a delivery of it by that channel.
    async fn is_there(&self, tx: &mut Tx<'_>, n: &Notification, user: &UserKey) -> StoreResult<bool> {
        let found = tx
            .fetch_opt(
                "looking for a delivery by that channel",
                sql("SELECT 1 AS one FROM deliveries WHERE notification_id = $1 AND user_id = $2 AND channel = $3")
                    .bind(n.id.0)
                    .bind(user.user.as_str())
                    .bind(self.to.channel.as_str()),
            )
            .await?;
        Ok(found.is_some())
    }

    async fn place(&self, tx: &mut Tx<'_>, plans: &[(Arc<Notification>, RecipientPlan)]) -> StoreResult<()> {
        let pairs: Vec<(&Notification, &RecipientPlan)> = plans.iter().map(|(n, plan)| (n.as_ref(), plan)).collect();
        let mut known = Known::load(tx, &pairs).await?;
        let mut placer = Placer::default();
        for (n, plan) in plans {
            placer.place(tx, &mut known, n, std::slice::from_ref(plan), self.queued)?;
        }
        placer.flush(tx).await
    }

    async fn put_away(&self, tx: &mut Tx<'_>, ids: &[DeliveryId]) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "putting what was moved out of sight",
            by_engine(
                "UPDATE deliveries SET dismissed_at = $1 WHERE id IN (SELECT unhex(value) FROM json_each($2))",
                "UPDATE deliveries SET dismissed_at = $1
                 WHERE id IN (SELECT value::uuid FROM jsonb_array_elements_text($2::jsonb))",
            )
            .bind(now)
            .bind(json_ids(ids.iter().map(|id| id.0))),
        )
        .await?;
        Ok(())
    }
}

impl SqlStore {
    pub(super) async fn move_each(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        to: &MoveTo,
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<Moved>> {
        self.write(MoveDead {
            app: app.clone(),
            ids: ids.to_vec(),
            to: to.clone(),
            target: target.to_owned(),
            actor: actor.cloned(),
            queued: Instant::now(),
        })
        .await
    }
}
