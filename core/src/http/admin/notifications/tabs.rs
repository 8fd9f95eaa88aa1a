//! The tabs above the list: each status with how many there are.

use super::{Asked, overall_of, part};
use crate::{
    http::{
        admin::search::{self, Wanted},
        api::notifications::Overall,
        problem::ApiResult,
    },
    services::Services,
};
use campanile_admin_ui::{
    format,
    pieces::{Part, Tab, Tabs},
};
use campanile_model::{
    NotificationId, Timestamp,
    api::ShownState,
    ports::{Counted, MANY, NotificationFilter, Whole},
};
use std::collections::HashMap;

/// Label, what is searched for, tone.
const TABS: [(&str, &str, &str); 11] = [
    ("Waiting", "waiting", ""),
    ("Scheduled", "scheduled", ""),
    ("Sending", "sending", ""),
    ("Retrying", "retrying", "warn"),
    ("Delivered", "delivered", ""),
    ("Partly", "partly", "warn"),
    ("Failed", "failed", "bad"),
    ("Dead", "dead", "bad"),
    ("Expired", "expired", ""),
    ("Suppressed", "suppressed", ""),
    ("Cancelled", "cancelled", ""),
];

/// Looked at for the counts beside other filters.
const COUNTED_AMONG: u32 = 200;

/// How many there are of each status.
struct Tally {
    states: Vec<(ShownState, u64)>,
    whole: HashMap<Whole, Counted>,
    /// Of the newest so many: each may be more.
    more: bool,
}

impl Tally {
    /// Of everything: by what the indexes tell.
    async fn of_all(s: &Services, asked: &Asked) -> ApiResult<Self> {
        let since = asked.filter.since.unwrap_or(Timestamp::UNIX_EPOCH);
        let states = s.store.state_counts(&asked.filter.app, since).await?;
        let whole = s.store.whole_counts(&asked.filter.app, since).await?;
        Ok(Self { states, whole, more: false })
    }

    /// With other filters: of the newest that match.
    async fn of_newest(s: &Services, asked: &Asked) -> ApiResult<Self> {
        let filter = NotificationFilter {
            state: None,
            handed_over: false,
            whole: None,
            before: None,
            after: None,
            limit: COUNTED_AMONG + 1,
            ..asked.filter.clone()
        };
        let mut found = s.store.notifications(&filter).await?;
        let more = found.len() > COUNTED_AMONG as usize;
        found.truncate(COUNTED_AMONG as usize);
        let ids: Vec<NotificationId> = found.iter().map(|(row, _)| row.notification.id).collect();
        let states = s.store.states_among(&filter, &ids).await?;
        let lanes = s.store.lanes(&filter.app, &ids).await?;
        let mut whole: HashMap<Whole, Counted> = HashMap::new();
        for (row, _) in &found {
            let word = match overall_of(row, lanes.get(&row.notification.id).map_or(&[], Vec::as_slice)) {
                Overall::Failed => Whole::Failed,
                Overall::Partly => Whole::Partly,
                _ => continue,
            };
            let counted = whole.entry(word).or_default();
            *counted = Counted { n: counted.n + 1, more };
        }
        Ok(Self { states, whole, more })
    }

    /// `12`, `40+`; `None` when there is none.
    fn count(&self, word: &str) -> Option<String> {
        let wanted = search::status(word)?;
        let Counted { n, more } = match wanted {
            Wanted::Whole(whole) => self.whole.get(&whole).copied().unwrap_or_default(),
            wanted => {
                let n = self.states.iter().filter(|(state, _)| search::is(wanted, *state)).map(|(_, n)| n).sum();
                Counted { n, more: self.more || n >= MANY }
            }
        };
        (n > 0).then(|| format!("{}{}", format::count(n.min(MANY)), if more { "+" } else { "" }))
    }
}

pub async fn tabs(s: &Services, asked: &Asked) -> Part<Tabs> {
    let plain = asked.filter.until.is_none() && asked.terms.iter().all(|(key, _)| ["status", "since"].contains(&key));
    let tally = if plain { Tally::of_all(s, asked).await } else { Tally::of_newest(s, asked).await };
    let drawn = tally.map(|tally| {
        let now = asked.terms.get("status");
        let tab = |label: &str, word: &str, tone| Tab {
            label: label.to_owned(),
            href: asked.here.with("q", asked.terms.with("status", word)),
            count: tally.count(word),
            tone,
            current: now.unwrap_or_default() == word,
        };
        let mut tabs = vec![tab("All", "", "")];
        tabs.extend(TABS.iter().map(|(label, word, tone)| tab(label, word, tone)));
        Tabs { id: "tabs", label: "Status", tabs }
    });
    part(s, "tabs", "Counts by status", drawn)
}
