//! A second app beside the default one, and what each of the two is shown.
//!
//! Owns: making it (there is no call for that yet, so it is put into the database by hand), and recording whose ids are
//! seen where. Absent on purpose: the rule that they stay apart (the checker's I12).

use crate::{
    api::Api,
    fleet::Fleet,
    history::{Owned, Sighting},
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};
use std::collections::BTreeMap;

pub const OTHER: &str = "other";

/// What shows an application ids of notifications and deliveries.
const PAGES: [&str; 4] = ["notifications?limit=100", "dead_letters", "connections", "queues"];

/// A caller of the second app at the first node.
pub async fn second(fleet: &Fleet) -> Api {
    let api = fleet.nodes[0].api();
    let made =
        api.post("/api/v1/keys", &json!({"name": OTHER, "scopes": ["send", "read", "manage"]})).await.expect(201);
    let mut session = PgConnection::connect(fleet.database()).await.expect("a session");
    // The key has not been used, so no node remembers it as one of the default app.
    for sql in [
        "INSERT INTO apps (app, created_at) VALUES ('other', 0)",
        "UPDATE api_keys SET app = 'other' WHERE name = 'other'",
    ] {
        sqlx::query(sql).execute(&mut session).await.expect("the second app can be made");
    }
    let _ = session.close().await;
    let key = made["key"].as_str().expect("a key");
    fleet.record.with(|h| h.secret("the key of the other app", key.rsplit('_').next().unwrap_or(key)));
    api.with_key(key)
}

/// Notes whose every id is, and what both apps are shown: pages, frames, mails.
pub async fn look(fleet: &Fleet, other: &Api) {
    let mut session = PgConnection::connect(fleet.database()).await.expect("a session");
    let ids = "SELECT id, app FROM notifications
               UNION ALL SELECT d.id, n.app FROM deliveries d JOIN notifications n ON n.id = d.notification_id";
    let rows = sqlx::query(ids).fetch_all(&mut session).await.expect("ids and apps");
    let _ = session.close().await;
    fleet.record.with(|h| h.owners.extend(rows.iter().map(|r| Owned { id: r.get(0), app: r.get(1) })));
    for (app, api) in [("default", fleet.nodes[0].api()), (OTHER, other.clone())] {
        for page in PAGES {
            let text = api.get(&format!("/api/v1/{page}")).await.text;
            fleet.record.with(|h| h.sighting(app, page, &text));
        }
    }
    // All devices are people of the default app.
    fleet.record.with(|h| {
        let mut frames: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for arrival in &h.arrivals {
            frames.entry(format!("a frame to {}", arrival.device)).or_default().push(arrival.id);
        }
        let seen = frames.into_iter().map(|(place, ids)| Sighting { app: "default".into(), place, ids });
        h.sightings.extend(seen);
    });
    for mail in fleet.relay.received() {
        let app = if mail.to.iter().any(|to| to.ends_with("@other.example")) { OTHER } else { "default" };
        fleet.record.with(|h| h.sighting(app, "a mail", &mail.text()));
    }
}
