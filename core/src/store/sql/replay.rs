//! Replay of a dead letter: audited, fenced by its state, with a recipient that holds today.

use super::{
    audit,
    collapse::{CollapseKey, Collapses, transition},
    gate::Wanted,
    group::Operation,
    rows::{Cells, notification_columns},
    statement::{Row, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, DeliveryId, DeliveryState,
    ports::{Actor, ReplayOutcome, StoreResult},
    state::reason,
    user::Contact,
};
use serde_json::{Value, json};

pub struct ReplayDead {
    pub app: AppId,
    pub id: DeliveryId,
    pub actor: Actor,
}

#[async_trait]
impl Operation for ReplayDead {
    type Output = ReplayOutcome;
    const NAME: &'static str = "replay";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<ReplayOutcome> {
        let (outcome, detail) = one(tx, &self.app, self.id).await?;
        if let Some(detail) = detail {
            audit::append(tx, &self.actor, "delivery.replay", &self.id.to_string(), Some(detail)).await?;
        }
        Ok(outcome)
    }
}

/// What is known of one delivery, with its notification and its person.
pub async fn known(tx: &mut Tx<'_>, app: &AppId, id: DeliveryId) -> StoreResult<Option<Row>> {
    tx.fetch_opt(
        "reading a dead letter",
        sql(concat!(
            "SELECT d.id, d.notification_id, d.user_id, d.channel, d.recipient, d.recipient_inline, d.in_app,
                        d.state, d.reason, d.stop, d.attempt, d.dismissed_at IS NOT NULL AS dismissed,
                        n.cancelled_at IS NOT NULL AS cancelled, u.email,
                        COALESCE(u.addresses, '{}') AS addresses, u.disabled_at IS NOT NULL AS disabled, ",
            notification_columns!(),
            " FROM deliveries d JOIN notifications n ON n.id = d.notification_id
                  LEFT JOIN users u ON u.app = d.app AND u.user_id = d.user_id
                  WHERE d.id = $1 AND d.app = $2"
        ))
        .bind(id.0)
        .bind(app.as_str()),
    )
    .await
}

/// Replays one, and what its audit entry would say.
pub async fn one(tx: &mut Tx<'_>, app: &AppId, id: DeliveryId) -> StoreResult<(ReplayOutcome, Option<Value>)> {
    let Some(row) = known(tx, app, id).await? else { return Ok((ReplayOutcome::NotFound, None)) };
    let c = Cells::of("deliveries", &row);
    let way = Way { channel: c.channel("channel")?, in_app: c.flag("in_app")?, inline: c.flag("recipient_inline")? };
    let recipient = match revivable(tx, c, &way).await? {
        Ok(recipient) => recipient,
        Err(why) => return Ok((ReplayOutcome::NotReplayable(why), None)),
    };
    let now = tx.now;
    let revived = tx
        .fetch_opt(
            "replaying a dead letter",
            sql("UPDATE deliveries SET state = 'pending', reason = NULL, spent = 0, losses = 0, due_at = $1,
                            next_attempt_at = $1, relay_at = $1, relay_n = 0, settled_at = NULL, stop = NULL,
                            dismissed_at = NULL, recipient = $2
                     WHERE id = $3 AND state = 'dead'
                     RETURNING id, notification_id, app, user_id, channel, priority, attempt")
            .bind(now)
            .bind(recipient)
            .bind(id.0),
        )
        .await?;
    let Some(revived) = revived else { return Ok((ReplayOutcome::NotReplayable("not_dead"), None)) };
    let t = transition(Cells::of("deliveries", &revived), DeliveryState::Pending, None)?;
    tx.effects.transitions.push(t);
    let detail = json!({"reason": c.get::<Option<String>>("reason")?, "attempt": c.small("attempt")?});
    Ok((ReplayOutcome::Replayed, Some(detail)))
}

/// By which channel something dead is to go out now.
pub struct Way {
    pub channel: ChannelName,
    pub in_app: bool,
    /// To the address that was given with it, not to the person's own.
    pub inline: bool,
}

/// Whom to send to (nobody's address in the app's own feed), or why it can't go.
pub async fn revivable(tx: &mut Tx<'_>, c: Cells<'_>, way: &Way) -> StoreResult<Result<Option<String>, &'static str>> {
    if c.state("state")? != DeliveryState::Dead {
        return Ok(Err("not_dead"));
    }
    if c.flag("cancelled")? {
        return Ok(Err(reason::CANCELLED));
    }
    // An erase, a merge, a cancel or a collapse that came while it was sending or dead.
    match c.get::<Option<&str>>("stop")? {
        Some(reason::ERASED) => return Ok(Err(reason::ERASED)),
        Some(reason::MERGED) => return Ok(Err(reason::MERGED)),
        Some(reason::COLLAPSED) => return Ok(Err(reason::COLLAPSED)),
        Some(_) => return Ok(Err(reason::CANCELLED)),
        None => {}
    }
    let n = c.notification("notification_id")?;
    if n.expires_at.is_some_and(|at| at.timestamp_millis() <= tx.now) {
        return Ok(Err(reason::EXPIRED));
    }
    let user = c.user()?;
    if let Some(key) = CollapseKey::of(&n, &user.user) {
        let collapses = Collapses::of_keys(tx, std::slice::from_ref(&key)).await?;
        if collapses.is_superseded(&key, n.id) {
            return Ok(Err(reason::COLLAPSED));
        }
    }
    if c.flag("disabled")? {
        return Ok(Err(reason::USER_DISABLED));
    }
    if way.in_app {
        return Ok(Ok(None));
    }
    let channel = &way.channel;
    let recipient = if way.inline {
        c.get::<Option<String>>("recipient")?
    } else {
        let contact = Contact { email: c.get("email")?, addresses: c.json("addresses")?, ..Contact::default() };
        contact.address(channel).map(str::to_owned)
    };
    let Some(recipient) = recipient else { return Ok(Err(reason::NO_ADDRESS)) };
    let mut wanted = Wanted::default();
    wanted.add(&n, &user.user, channel, Some(&recipient));
    let gate = wanted.load(tx).await?;
    if gate.unsubscribed(&n, &user.user, channel) {
        return Ok(Err(reason::UNSUBSCRIBED));
    }
    if gate.address_of(&n, channel, &recipient) {
        return Ok(Err(reason::SUPPRESSED_ADDRESS));
    }
    Ok(Ok(Some(recipient)))
}
