//! Stored requests and their stored answers: a person leaves them, or takes another's place.
//!
//! Absent on purpose: audiences that are still to be expanded ([`crowd`](super::crowd)).

use super::{
    accept::encode,
    crowd::in_spec,
    rows::Cells,
    statement::{Sql, by_engine, sql},
    tx::Tx,
};
use campanile_model::{UserId, UserKey, api::Acceptance, ports::StoreResult};
use serde_json::Value;

/// Notifications of app `$1` that were addressed to `$2`, with their stored answers. Of those that were cancelled before
/// they were expanded no delivery and no spec names the user: their requests do.
macro_rules! addressed {
    (sqlite) => {
        addressed!(
            in_spec!(sqlite),
            "SELECT 1 FROM json_each(c.request, '$.to') j
             WHERE $2 = CASE WHEN j.type = 'object' THEN j.value ->> 'user_id' ELSE j.value END"
        )
    };
    (postgres) => {
        addressed!(
            in_spec!(postgres),
            "SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof(c.request::jsonb -> 'to')
                                                WHEN 'array' THEN c.request::jsonb -> 'to' END) AS j (value)
             WHERE $2 = CASE jsonb_typeof(j.value) WHEN 'object' THEN j.value ->> 'user_id' ELSE j.value #>> '{}' END"
        )
    };
    ($in_spec:expr, $in_request:literal) => {
        concat!(
            " FROM notifications n LEFT JOIN idempotency i ON i.app = n.app AND i.key = n.idempotency_key
              WHERE n.id IN (SELECT notification_id FROM deliveries WHERE app = $1 AND user_id = $2
                             UNION
                             SELECT a.notification_id FROM audiences a WHERE a.done_at IS NULL AND ",
            $in_spec,
            "                UNION
                             SELECT c.id FROM audiences a JOIN notifications c ON c.id = a.notification_id
                             WHERE c.cancelled_at IS NOT NULL AND EXISTS (",
            $in_request,
            ")) AND n.app = $1"
        )
    };
}

/// `user` leaves whatever was addressed to them, or becomes `into`.
pub async fn change(tx: &mut Tx<'_>, user: &UserKey, into: Option<&UserId>) -> StoreResult<()> {
    let bound = |text: Sql<'static>| text.bind(user.app.as_str()).bind(user.user.as_str());
    if tx.is_shared() {
        // Two at once must not write back each other's names. Locked first, read afterwards: what is read is what is there.
        let lock = concat!("SELECT n.id", addressed!(postgres), " ORDER BY n.id FOR UPDATE OF n");
        tx.exec("locking a user's requests", bound(sql(lock))).await?;
    }
    let read = by_engine(
        concat!("SELECT n.id, n.request, i.key, i.response", addressed!(sqlite)),
        concat!("SELECT n.id, n.request, i.key, i.response", addressed!(postgres)),
    );
    let rows = tx.fetch("reading a user's requests", bound(read)).await?;
    for row in &rows {
        let c = Cells::of("notifications", row);
        let mut request: Value = c.json("request")?;
        edit(&mut request, user.user.as_str(), into.map(UserId::as_str));
        tx.exec(
            "changing a stored request",
            sql("UPDATE notifications SET request = $1 WHERE id = $2").bind(request.to_string()).bind(c.uuid("id")?),
        )
        .await?;
        let Some(key) = c.get::<Option<String>>("key")? else { continue };
        let mut response: Acceptance = c.as_table("idempotency").json("response")?;
        for d in response.deliveries.iter_mut().flatten().filter(|d| d.user_id == user.user) {
            if let Some(into) = into {
                d.user_id = into.clone();
            }
        }
        if let (None, Some(deliveries)) = (into, &mut response.deliveries) {
            deliveries.retain(|d| d.user_id != user.user);
        }
        tx.exec(
            "changing a stored answer",
            sql("UPDATE idempotency SET response = $1 WHERE app = $2 AND key = $3")
                .bind(encode(&response)?)
                .bind(user.app.as_str())
                .bind(key),
        )
        .await?;
    }
    Ok(())
}

/// Takes a user and what was said of them out of a stored request, or gives them another name in it. Who is named twice then
/// is named once.
fn edit(request: &mut Value, user: &str, into: Option<&str>) {
    let Some(request) = request.as_object_mut() else { return };
    let name_of = |v: &Value| v.as_str().or_else(|| v.get("user_id")?.as_str()).map(str::to_owned);
    if request.get("user_id").and_then(name_of).as_deref() == Some(user) {
        request.insert("user_id".to_owned(), into.into());
        if into.is_none() {
            request.remove("email");
            request.remove("addresses");
        }
    }
    for key in ["to", "recipients"] {
        let Some(Value::Array(to)) = request.get_mut(key) else { continue };
        let there = into.is_some() && to.iter().any(|entry| name_of(entry).as_deref() == into);
        to.retain_mut(|entry| {
            if name_of(entry).as_deref() != Some(user) {
                return true;
            }
            let Some(into) = into.filter(|_| !there) else { return false };
            match entry {
                Value::Object(entry) => drop(entry.insert("user_id".to_owned(), into.into())),
                entry => *entry = into.into(),
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn edited(mut request: Value, into: Option<&str>) -> Value {
        edit(&mut request, "ada", into);
        request
    }

    #[test]
    fn a_user_leaves_every_form_of_a_request() {
        let one = json!({"user_id": "ada", "email": "a@x", "channels": ["email"]});
        assert_eq!(edited(one, None), json!({"user_id": null, "channels": ["email"]}));
        let many = json!({"to": ["ada", {"user_id": "ada", "email": "a@x"}, "bo"]});
        assert_eq!(edited(many, None), json!({"to": ["bo"]}));
    }

    #[test]
    fn or_takes_another_name_in_it() {
        let one = json!({"user_id": "ada", "email": "a@x"});
        assert_eq!(edited(one, Some("eve")), json!({"user_id": "eve", "email": "a@x"}));
        let many = json!({"to": [{"user_id": "ada", "email": "a@x"}, "bo"]});
        assert_eq!(edited(many, Some("eve")), json!({"to": [{"user_id": "eve", "email": "a@x"}, "bo"]}));
        assert_eq!(edited(json!({"to": ["ada", "bo"]}), Some("bo")), json!({"to": ["bo"]}), "once is enough");
    }
}
