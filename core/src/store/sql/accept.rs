//! Accepting, as a set: every request of the group is decided in memory, then each table is written once.

use super::{
    group::{AcceptInput, AcceptJob},
    place::{Known, Placer},
    read::{Reads, now},
    rows::{Cells, Hex, json_rows},
    statement::{by_engine, sql},
    tx::{Tx, user_key},
};
use campanile_model::{
    AppId, Notification, UserKey,
    api::{Acceptance, AcceptedAudience},
    plan::{AcceptItem, AudiencePlan, Idempotency, RecipientPlan},
    ports::{AcceptError, Accepted, StoreError, StoreResult},
};
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// About how many rows it writes.
pub fn rows(item: &AcceptItem) -> usize {
    2 + match &item.audience {
        AudiencePlan::Inline(recipients) => recipients.iter().map(|r| 1 + 2 * r.deliveries.len()).sum(),
        AudiencePlan::Deferred(_) => 1,
    }
}

/// One row of `notifications`; the statement below reads it by these names.
#[derive(Serialize)]
struct NotificationInsert<'a> {
    id: Hex,
    app: &'a str,
    title: &'a str,
    message: &'a str,
    kind: &'a str,
    data: String,
    priority: i64,
    created_at: i64,
    send_at: Option<i64>,
    expires_at: Option<i64>,
    collapse_key: Option<&'a str>,
    source: &'static str,
    request: String,
    request_id: &'a str,
    key: Option<&'a str>,
    traceparent: Option<String>,
    sent_by: &'a str,
}

/// An idempotency key with the answer it keeps.
#[derive(Clone)]
struct Kept {
    hash: Vec<u8>,
    body: Acceptance,
}

/// Whose feed states an accept changes.
pub fn users(item: &AcceptItem) -> impl Iterator<Item = UserKey> + '_ {
    inline(item).iter().map(|recipient| user_key(&item.notification.app, &recipient.user_id))
}

type Keys = HashMap<(String, String), Kept>;

pub async fn run(tx: &mut Tx<'_>, jobs: &[AcceptJob]) -> StoreResult<Vec<Result<Accepted, AcceptError>>> {
    let busy = busy_keys(tx, jobs).await?;
    let mut keys = stored_keys(tx, jobs).await?;
    let mut known = Known::load(tx, &plans(jobs)).await?;
    let mut placer = Placer::default();
    let mut new_keys = Vec::new();
    let mut notifications = Vec::new();
    let mut audiences = Vec::new();
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        let AcceptInput { item, idempotency_ttl } = &job.input;
        let n = &item.notification;
        let key = item.idempotency.as_ref().map(|i| ((n.app.to_string(), i.key.clone()), i.body_hash));
        if let Some((key, _)) = &key
            && busy.contains(key)
        {
            outcomes.push(Err(AcceptError::KeyBusy));
            continue;
        }
        if let Some((key, hash)) = &key
            && let Some(kept) = keys.get(key)
        {
            outcomes.push(if kept.hash == hash {
                Ok(Accepted { body: kept.body.clone(), replayed: true })
            } else {
                Err(AcceptError::KeyMismatch)
            });
            continue;
        }
        if is_stale(tx, n, inline(item))? {
            outcomes.push(Err(AcceptError::Stale));
            continue;
        }
        // Deliveries refer to it, and a collapse within the group writes them early.
        notifications.push(notification_row(item));
        let body = match &item.audience {
            AudiencePlan::Inline(recipients) => {
                if known.replaces_unwritten(n, recipients) {
                    // What it replaces is still only in memory.
                    flush_notifications(tx, &mut notifications).await?;
                    placer.flush(tx).await?;
                    known.collapses.flush(tx).await?;
                }
                let deliveries = placer.place(tx, &mut known, &Arc::new(n.clone()), recipients, job.queued)?;
                acceptance(n, Some(deliveries), None)
            }
            AudiencePlan::Deferred(spec) => {
                let recipients = spec.recipients.len() as u32;
                audiences.push((Hex(n.id.0), encode(spec)?, recipients));
                acceptance(n, None, Some(AcceptedAudience { recipients }))
            }
        };
        if let Some((key, hash)) = key {
            let expires_at = tx.now.saturating_add(idempotency_ttl.as_millis() as i64);
            new_keys.push((key.0.clone(), key.1.clone(), hex(&hash), encode(&body)?, expires_at));
            keys.insert(key, Kept { hash: hash.to_vec(), body: body.clone() });
        }
        outcomes.push(Ok(Accepted { body, replayed: false }));
    }
    flush_notifications(tx, &mut notifications).await?;
    known.collapses.flush(tx).await?;
    placer.flush(tx).await?;
    store_audiences(tx, &audiences).await?;
    store_keys(tx, &new_keys).await?;
    Ok(outcomes)
}

fn plans(jobs: &[AcceptJob]) -> Vec<(&Notification, &RecipientPlan)> {
    let of = |item| inline(item).iter().map(|recipient| (&item.notification, recipient));
    jobs.iter().flat_map(|job| of(&job.input.item)).collect()
}

fn inline(item: &AcceptItem) -> &[RecipientPlan] {
    match &item.audience {
        AudiencePlan::Inline(recipients) => recipients,
        AudiencePlan::Deferred(_) => &[],
    }
}

/// Someone was erased or merged since the plan was made.
pub fn is_stale(tx: &Tx<'_>, n: &Notification, recipients: &[RecipientPlan]) -> StoreResult<bool> {
    for recipient in recipients {
        if tx.user(&user_key(&n.app, &recipient.user_id))?.generation != recipient.generation {
            return Ok(true);
        }
    }
    Ok(false)
}

fn acceptance(
    n: &Notification,
    deliveries: Option<Vec<campanile_model::api::AcceptedDelivery>>,
    audience: Option<AcceptedAudience>,
) -> Acceptance {
    Acceptance { notification_id: n.id, status: "accepted".to_owned(), deliveries, audience }
}

/// The keys of these requests, sorted.
fn keys_of(jobs: &[AcceptJob]) -> BTreeSet<(&str, &str)> {
    let mut keys = BTreeSet::new();
    for AcceptJob { input: AcceptInput { item, .. }, .. } in jobs {
        if let Some(idempotency) = &item.idempotency {
            keys.insert((item.notification.app.as_str(), idempotency.key.as_str()));
        }
    }
    keys
}

/// Keys that another transaction holds. The others are ours until COMMIT: of two requests with one key that arrive at two
/// nodes at once, the second finds the first one's answer. SQLite has one writer, which is as good.
async fn busy_keys(tx: &mut Tx<'_>, jobs: &[AcceptJob]) -> StoreResult<HashSet<(String, String)>> {
    let wanted: Vec<(&str, &str)> = keys_of(jobs).into_iter().collect();
    if wanted.is_empty() || !tx.is_shared() {
        return Ok(HashSet::new());
    }
    let rows = tx
        .fetch(
            "taking idempotency keys",
            // A statement of its own: what a key's last holder has committed is seen by the next one.
            sql(
                "SELECT j.value ->> 0 AS app, j.value ->> 1 AS key FROM jsonb_array_elements($1::jsonb) AS j (value)
                 WHERE NOT pg_try_advisory_xact_lock(hashtextextended((j.value ->> 0) || chr(31) || (j.value ->> 1), 0))",
            )
            .bind(json_rows(&wanted)?),
        )
        .await?;
    rows.iter()
        .map(|row| {
            let c = Cells::of("idempotency", row);
            Ok((c.text("app")?, c.text("key")?))
        })
        .collect()
}

/// Keys that are known and not expired.
async fn stored_keys(tx: &mut Tx<'_>, jobs: &[AcceptJob]) -> StoreResult<Keys> {
    let wanted: Vec<(&str, &str)> = keys_of(jobs).into_iter().collect();
    if wanted.is_empty() {
        return Ok(Keys::new());
    }
    let now = tx.now;
    let rows = tx
        .fetch(
            "reading idempotency keys",
            by_engine(
                "SELECT i.app, i.key, i.hash, i.response
                 FROM json_each($1) j CROSS JOIN idempotency i ON i.app = j.value ->> 0 AND i.key = j.value ->> 1
                 WHERE i.expires_at > $2",
                "SELECT i.app, i.key, i.hash, i.response
                 FROM jsonb_array_elements($1::jsonb) AS j (value)
                 JOIN idempotency i ON i.app = j.value ->> 0 AND i.key = j.value ->> 1
                 WHERE i.expires_at > $2",
            )
            .bind(json_rows(&wanted)?)
            .bind(now),
        )
        .await?;
    rows.iter()
        .map(|row| {
            let c = Cells::of("idempotency", row);
            Ok(((c.text("app")?, c.text("key")?), Kept { hash: c.get("hash")?, body: c.json("response")? }))
        })
        .collect()
}

macro_rules! answered {
    ($engine:ident) => {
        concat!(
            "SELECT response FROM idempotency WHERE app = $2 AND key = $3 AND hash = $4 AND expires_at > ",
            now!($engine)
        )
    };
}

impl Reads {
    /// Outside of any commit: for a repeat that is not accepted again.
    pub async fn answered(&self, app: &AppId, request: &Idempotency) -> StoreResult<Option<Acceptance>> {
        let row = self
            .fetch_opt(
                "answered",
                by_engine(answered!(sqlite), answered!(postgres))
                    .bind(self.offset())
                    .bind(app.as_str())
                    .bind(&request.key)
                    .bind(request.body_hash.to_vec()),
            )
            .await?;
        row.map(|row| Cells::of("idempotency", &row).json("response")).transpose()
    }
}

fn notification_row(item: &AcceptItem) -> NotificationInsert<'_> {
    let n = &item.notification;
    let mut request = item.request.clone();
    if let Some(request) = request.as_object_mut() {
        // They have columns of their own.
        for key in ["title", "message", "data"] {
            request.remove(key);
        }
    }
    NotificationInsert {
        id: Hex(n.id.0),
        app: n.app.as_str(),
        title: &n.content.title,
        message: &n.content.message,
        kind: &n.content.notification_type,
        data: serde_json::Value::Object(n.content.data.clone()).to_string(),
        priority: n.priority.rank(),
        created_at: n.created_at.timestamp_millis(),
        send_at: n.send_at.map(|t| t.timestamp_millis()),
        expires_at: n.expires_at.map(|t| t.timestamp_millis()),
        collapse_key: n.collapse_key.as_deref(),
        source: item.source.as_str(),
        request: request.to_string(),
        request_id: &n.request_id,
        key: item.idempotency.as_ref().map(|i| i.key.as_str()),
        traceparent: n.trace.map(|trace| trace.to_string()),
        sent_by: &item.sent_by,
    }
}

async fn flush_notifications(tx: &mut Tx<'_>, rows: &mut Vec<NotificationInsert<'_>>) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    tx.exec(
        "storing notifications",
        by_engine("INSERT INTO notifications (id, app, title, message, notification_type, data, priority, created_at, send_at,
                                        expires_at, collapse_key, source, request, request_id, idempotency_key,
                                        traceparent, sent_by)
             SELECT unhex(value ->> 'id'), value ->> 'app', value ->> 'title', value ->> 'message', value ->> 'kind',
                    value ->> 'data', value ->> 'priority', value ->> 'created_at', value ->> 'send_at',
                    value ->> 'expires_at', value ->> 'collapse_key', value ->> 'source', value ->> 'request',
                    value ->> 'request_id', value ->> 'key', value ->> 'traceparent', value ->> 'sent_by'
             FROM json_each($1)", "INSERT INTO notifications (id, app, title, message, notification_type, data, priority, created_at, send_at,
                                        expires_at, collapse_key, source, request, request_id, idempotency_key,
                                        traceparent, sent_by)
             SELECT id, app, title, message, kind, data, priority, created_at, send_at, expires_at, collapse_key, source,
                    request, request_id, key, traceparent, sent_by
             FROM jsonb_to_recordset($1::jsonb) AS j (
                id uuid, app text, title text, message text, kind text, data text, priority bigint, created_at bigint,
                send_at bigint, expires_at bigint, collapse_key text, source text, request text, request_id text, key text,
                traceparent text, sent_by text)")
        .bind(json_rows(rows)?),
    )
    .await?;
    rows.clear();
    Ok(())
}

async fn store_audiences(tx: &mut Tx<'_>, rows: &[(Hex, String, u32)]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    tx.exec(
        "storing audiences",
        by_engine(
            "INSERT INTO audiences (notification_id, spec, recipients)
             SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each($1)",
            "INSERT INTO audiences (notification_id, spec, recipients)
             SELECT (value ->> 0)::uuid, value ->> 1, (value ->> 2)::bigint FROM jsonb_array_elements($1::jsonb)",
        )
        .bind(json_rows(rows)?),
    )
    .await?;
    Ok(())
}

async fn store_keys(tx: &mut Tx<'_>, rows: &[(String, String, String, String, i64)]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    tx.exec(
        "storing idempotency keys",
        by_engine(
            "INSERT INTO idempotency (app, key, hash, response, expires_at)
             SELECT value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4 FROM json_each($1) WHERE true
             ON CONFLICT DO UPDATE SET hash = excluded.hash, response = excluded.response,
                                       expires_at = excluded.expires_at",
            "INSERT INTO idempotency (app, key, hash, response, expires_at)
             SELECT value ->> 0, value ->> 1, decode(value ->> 2, 'hex'), value ->> 3, (value ->> 4)::bigint
             FROM jsonb_array_elements($1::jsonb)
             ON CONFLICT (app, key) DO UPDATE SET hash = excluded.hash, response = excluded.response,
                                                  expires_at = excluded.expires_at",
        )
        .bind(json_rows(rows)?),
    )
    .await?;
    Ok(())
}

pub fn encode(value: &impl Serialize) -> StoreResult<String> {
    serde_json::to_string(value)
        .map_err(|e| StoreError::Statement { what: "encoding what a row keeps", source: Box::new(e) })
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        // Writing to a String can't fail.
        let _ = write!(out, "{b:02x}");
        out
    })
}
