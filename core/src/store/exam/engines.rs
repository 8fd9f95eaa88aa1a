//! The engines under exam. PostgreSQL joins this list with the production engines.

use super::hall::Sitting;
use crate::{
    observe::Metrics,
    store::sqlite::{Settings, SqliteStore},
};
use campanile_model::ports::EffectSink;
use std::{sync::Arc, time::Duration};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Sqlite,
}

pub(crate) fn all() -> impl Iterator<Item = Engine> {
    [Engine::Sqlite].into_iter()
}

pub(crate) fn sqlite_settings(folder: &std::path::Path) -> Settings {
    Settings {
        path: folder.join("exam.db"),
        readers: 2,
        busy_timeout: Duration::from_secs(5),
        max_waiting: 10_000,
        idempotency_ttl: Duration::from_hours(24),
    }
}

pub(crate) async fn open(engine: Engine, sink: Arc<dyn EffectSink>) -> Sitting {
    match engine {
        Engine::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            let settings = sqlite_settings(folder.path());
            let store = SqliteStore::open(settings, sink, Arc::new(Metrics::new())).await.unwrap();
            let clock = store.clone();
            Sitting { store, set_clock: Box::new(move |ms| clock.set_clock_offset(ms)), _folder: folder }
        }
    }
}
