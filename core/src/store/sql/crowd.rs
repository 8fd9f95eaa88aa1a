//! Large audiences that name a person before that person's turn: who leaves them, and who takes another's place.

use super::{
    accept::encode,
    rows::Cells,
    statement::{by_engine, sql},
    tx::Tx,
};
use campanile_model::{
    UserId, UserKey,
    plan::{AudienceSpec, RecipientSpec},
    ports::StoreResult,
};
use uuid::Uuid;

/// Somebody of this list of recipients is `$2`.
macro_rules! in_spec {
    (sqlite) => {
        "EXISTS (SELECT 1 FROM json_each(a.spec, '$.recipients') j WHERE j.value ->> 'user_id' = $2)"
    };
    (postgres) => {
        "EXISTS (SELECT 1 FROM jsonb_array_elements(a.spec::jsonb -> 'recipients') AS j (value)
                 WHERE j.value ->> 'user_id' = $2)"
    };
}
pub(crate) use in_spec;

macro_rules! unexpanded {
    ($engine:ident, $lock:literal) => {
        concat!(
            "SELECT a.notification_id, a.spec, a.cursor, a.recipients
             FROM audiences a JOIN notifications n ON n.id = a.notification_id
             WHERE a.done_at IS NULL AND n.app = $1 AND ",
            in_spec!($engine),
            $lock
        )
    };
}

/// `user` leaves, or becomes `into`. The lease goes too: a slice that was resolved before is claimed anew. How many audiences
/// it was.
pub async fn change(tx: &mut Tx<'_>, user: &UserKey, into: Option<&UserId>) -> StoreResult<u64> {
    let rows = tx
        .fetch(
            "reading unexpanded audiences",
            by_engine(unexpanded!(sqlite, ""), unexpanded!(postgres, " ORDER BY a.notification_id FOR UPDATE OF a"))
                .bind(user.app.as_str())
                .bind(user.user.as_str()),
        )
        .await?;
    let now = tx.now;
    for row in &rows {
        let c = Cells::of("audiences", row);
        let id: Uuid = c.uuid("notification_id")?;
        let mut spec: AudienceSpec = c.json("spec")?;
        let (gone, gone_before) = edit(&mut spec.recipients, c.int("cursor")?, &user.user, into);
        let (cursor, recipients) = (c.int("cursor")? - gone_before, c.int("recipients")? - gone);
        if cursor >= recipients {
            // Nobody is left to expand, and what is done keeps no addresses.
            spec.recipients.clear();
        }
        tx.exec(
            "changing who is in an audience",
            sql("UPDATE audiences SET spec = $1, cursor = $2, recipients = $3, lease_owner = NULL,
                        lease_until = NULL, done_at = CASE WHEN $2 >= $3 THEN $4 END
                 WHERE notification_id = $5")
            .bind(encode(&spec)?)
            .bind(cursor)
            .bind(recipients)
            .bind(now)
            .bind(id),
        )
        .await?;
    }
    Ok(rows.len() as u64)
}

/// How many entries went, and how many of them stood before the cursor. Nobody stands in a list twice, so whoever is there
/// already is not joined by another of the same name.
fn edit(recipients: &mut Vec<RecipientSpec>, cursor: i64, user: &UserId, into: Option<&UserId>) -> (i64, i64) {
    if let Some(into) = into.filter(|into| !recipients.iter().any(|r| r.user_id == **into)) {
        for recipient in recipients.iter_mut().filter(|r| r.user_id == *user) {
            recipient.user_id = into.clone();
        }
        return (0, 0);
    }
    let (mut gone, mut gone_before, mut at) = (0, 0, 0);
    recipients.retain(|r| {
        let goes = r.user_id == *user;
        gone += i64::from(goes);
        gone_before += i64::from(goes && at < cursor);
        at += 1;
        !goes
    });
    (gone, gone_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_before_whoever_was_next() {
        let list = || {
            let of = |user: &str| RecipientSpec {
                user_id: UserId::from(user),
                addresses: std::collections::BTreeMap::new(),
            };
            ["a", "b", "c"].map(of).to_vec()
        };
        let names = |list: &[RecipientSpec]| list.iter().map(|r| r.user_id.to_string()).collect::<String>();
        for (cursor, into, gone, left) in [
            (0, None, (1, 0), "ac"),
            (1, None, (1, 0), "ac"),
            (2, None, (1, 1), "ac"),
            (0, Some("x"), (0, 0), "axc"),
            (2, Some("x"), (0, 0), "axc"),
            (0, Some("c"), (1, 0), "ac"),
            (2, Some("c"), (1, 1), "ac"),
        ] {
            let mut list = list();
            let into = into.map(UserId::from);
            assert_eq!(edit(&mut list, cursor, &UserId::from("b"), into.as_ref()), gone, "{cursor} {into:?}");
            assert_eq!(names(&list), left);
        }
    }
}
