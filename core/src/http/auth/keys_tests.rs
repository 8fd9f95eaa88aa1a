//! Keys over a store of one key that counts how often it is asked and can be down.

use super::*;
use async_trait::async_trait;
use campanile_model::ports::{Actor, KeyUseBy, StoreError, StoreResult, Ticket, UseKind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

#[derive(Default)]
struct OneKey {
    key: Mutex<Option<ApiKey>>,
    asked: AtomicUsize,
    down: AtomicBool,
    touched: Mutex<Vec<KeyUse>>,
}

#[async_trait]
impl AccessStore for OneKey {
    async fn create_key(&self, key: ApiKey, _: &Actor) -> StoreResult<()> {
        *self.key.lock().unwrap() = Some(key);
        Ok(())
    }
    async fn find_key(&self, id: KeyId) -> StoreResult<Option<ApiKey>> {
        self.asked.fetch_add(1, SeqCst);
        if self.down.load(SeqCst) {
            return Err(StoreError::Unavailable("down".into()));
        }
        Ok(self.key.lock().unwrap().clone().filter(|k| k.id == id))
    }
    async fn app_exists(&self, _: &AppId) -> StoreResult<bool> {
        Ok(true)
    }
    async fn list_keys(&self, _: &AppId) -> StoreResult<Vec<ApiKey>> {
        Ok(Vec::new())
    }
    async fn revoke_key(&self, _: &AppId, _: KeyId, _: &Actor) -> StoreResult<bool> {
        Ok(false)
    }
    async fn touch_keys(&self, used: &[KeyUse]) -> StoreResult<()> {
        self.touched.lock().unwrap().extend(used.iter().cloned());
        Ok(())
    }
    async fn put_ticket(&self, _: [u8; 32], _: Ticket, _: Duration) -> StoreResult<()> {
        Ok(())
    }
    async fn take_ticket(&self, _: [u8; 32]) -> StoreResult<Option<Ticket>> {
        Ok(None)
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

struct Fixed;
impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        now()
    }
}

fn cache(operator: &str, rate: u32, burst: u32) -> (Arc<KeyCache>, Arc<OneKey>, ApiKey, Secret) {
    let (row, text) = generate(AppId::default(), "ci".into(), vec![Scope::Send], now());
    let store = Arc::new(OneKey::default());
    *store.key.lock().unwrap() = Some(row.clone());
    let cache = KeyCache {
        store: store.clone(),
        clock: Arc::new(Fixed),
        operator: (!operator.is_empty()).then(|| sha256(operator)),
        rate,
        burst,
        state: Mutex::default(),
    };
    (Arc::new(cache), store, row, text)
}

fn admit(cache: &KeyCache, holder: &Holder) -> Result<(), ApiError> {
    cache.admit(holder, "10.0.0.7".parse().ok(), "POST", "/api/v1/notifications")
}

#[tokio::test]
async fn a_key_is_looked_up_once_and_again_after_a_change() {
    let (cache, store, row, text) = cache("", 1, 1);
    for _ in 0..3 {
        assert!(matches!(cache.holder(text.expose()).await.unwrap(), Some(Holder::Key(k)) if k.id == row.id));
    }
    assert_eq!(store.asked.load(SeqCst), 1);
    store.key.lock().unwrap().as_mut().unwrap().revoked_at = Some(now());
    cache.signal(&Signal::KeysChanged(AppId::default()));
    assert!(cache.holder(text.expose()).await.unwrap().is_none());
}

#[tokio::test]
async fn wrong_secrets_expired_and_unknown_keys_are_nobodys() {
    let (cache, store, row, text) = cache("", 1, 1);
    let (_, other) = generate(AppId::default(), "other".into(), vec![Scope::Send], now());
    let foreign_secret = format!("cmp_{}_{}", row.id.0.simple(), other.expose().splitn(3, '_').nth(2).unwrap());
    for bad in [foreign_secret.as_str(), other.expose(), "", "nonsense", "eyJ.e.s"] {
        assert!(cache.holder(bad).await.unwrap().is_none(), "{bad}");
    }
    // An invented id is not asked for twice.
    let asked = store.asked.load(SeqCst);
    assert!(cache.holder(other.expose()).await.unwrap().is_none());
    assert_eq!(store.asked.load(SeqCst), asked);
    store.key.lock().unwrap().as_mut().unwrap().expires_at = Some(now());
    cache.signal(&Signal::KeysChanged(AppId::default()));
    assert!(cache.holder(text.expose()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_database_that_is_down_is_503_and_never_401() {
    let (cache, store, _, text) = cache("op", 1, 1);
    store.down.store(true, SeqCst);
    let error = cache.holder(text.expose()).await.unwrap_err();
    assert_eq!((error.status, error.retry_after.is_some()), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert!(matches!(cache.holder("op").await.unwrap(), Some(Holder::Operator)));
    store.down.store(false, SeqCst);
    assert!(cache.holder(text.expose()).await.unwrap().is_some());
}

#[tokio::test]
async fn each_key_has_a_bucket_of_its_own() {
    let (cache, _, _, text) = cache("op", 1, 2);
    let (operator, key) =
        (cache.holder("op").await.unwrap().unwrap(), cache.holder(text.expose()).await.unwrap().unwrap());
    admit(&cache, &key).unwrap();
    admit(&cache, &key).unwrap();
    let refused = admit(&cache, &key).unwrap_err();
    assert_eq!((refused.status, refused.code), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
    assert!(refused.retry_after.is_some());
    admit(&cache, &operator).unwrap();
}

#[tokio::test]
async fn the_last_uses_are_written_when_the_host_stops() {
    let (cache, store, row, text) = cache("op", 100, 100);
    for token in ["op", text.expose(), text.expose()] {
        let holder = cache.holder(token).await.unwrap().unwrap();
        admit(&cache, &holder).unwrap();
    }
    cache.answered(row.id, StatusCode::UNPROCESSABLE_ENTITY);
    cache.answered(row.id, StatusCode::SERVICE_UNAVAILABLE);
    let stop = CancellationToken::new();
    stop.cancel();
    cache.flush_used(stop).await;
    let touched = store.touched.lock().unwrap();
    let [used] = &touched[..] else { panic!("{touched:?}") };
    assert_eq!((used.key, used.calls, used.refused), (row.id, 2, 1), "what is our fault is not the caller's");
    assert_eq!((used.address.as_deref(), &*used.route), (Some("10.0.0.7"), "POST /api/v1/notifications"));
    let by = |kind, name: &str| KeyUseBy { kind, name: name.to_owned(), calls: 2 };
    assert_eq!(used.by, [by(UseKind::Route, "POST /api/v1/notifications"), by(UseKind::Address, "10.0.0.7")]);
}

#[tokio::test]
async fn who_comes_with_an_ended_key_or_another_secret_is_counted_with_that_key() {
    let (cache, store, row, text) = cache("", 1, 1);
    let (_, other) = generate(AppId::default(), "other".into(), vec![Scope::Send], now());
    let secret = other.expose().splitn(3, '_').nth(2).unwrap();
    assert!(cache.holder(&format!("cmp_{}_{secret}", row.id.0.simple())).await.unwrap().is_none());
    assert!(cache.holder(other.expose()).await.unwrap().is_none(), "an invented id is nobody's");
    store.key.lock().unwrap().as_mut().unwrap().revoked_at = Some(now());
    cache.signal(&Signal::KeysChanged(AppId::default()));
    assert!(cache.holder(text.expose()).await.unwrap().is_none());
    let told = cache.state().told(now());
    let [used] = &told[..] else { panic!("{told:?}") };
    assert_eq!((used.key, used.calls, used.denied), (row.id, 0, 2));
}

#[tokio::test]
async fn a_restricted_key_works_from_its_networks_alone() {
    let (cache, store, row, text) = cache("", 100, 100);
    store.key.lock().unwrap().as_mut().unwrap().networks = vec!["10.0.0.0/8".into(), "2001:db8::/32".into()];
    let holder = cache.holder(text.expose()).await.unwrap().unwrap();
    let from = |ip: &str| cache.admit(&holder, ip.parse().ok(), "GET", "/x").map_err(|e| e.code);
    assert_eq!(from("10.1.2.3"), Ok(()));
    assert_eq!(from("2001:db8::1"), Ok(()));
    assert_eq!(from("11.1.2.3"), Err("address_not_allowed"));
    assert_eq!(from("not known"), Err("address_not_allowed"));
    let told = cache.state().told(now());
    assert_eq!((told[0].key, told[0].calls), (row.id, 4), "a refused call is seen as well");
}

#[test]
fn a_made_key_parses_back_and_only_its_hash_is_kept() {
    let (row, text) = generate(AppId::default(), "ci".into(), vec![Scope::Send], now());
    let (id, secret) = parse(text.expose()).unwrap();
    assert_eq!(id, row.id);
    assert_eq!(sha256(secret), row.secret_hash);
    assert!(secret.len() >= 43);
}

#[test]
fn other_texts_are_no_keys() {
    for bad in ["", "cmp_", "cmp_x_y", "cmp_0190a0a0", "eyJ.x.y", "cmp__"] {
        assert!(parse(bad).is_none(), "{bad}");
    }
}
