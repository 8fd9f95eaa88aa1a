//! There and back, and what a hostile side may send.

use super::*;
use crate::{Context, Delivery, Secret, StartError, info};
use schemars::JsonSchema;

fn travelled(outcome: &Outcome) -> Outcome {
    Outcome::read(
        outcome.status as u32,
        outcome.retry_after_ms(),
        outcome.code.as_bytes(),
        outcome.message.as_bytes(),
        outcome.provider_id.as_deref().unwrap_or_default().as_bytes(),
        outcome.detail_json().as_bytes(),
    )
}

#[test]
fn every_result_comes_back_as_it_went() {
    let reason = || Reason::new("http_503", "busy").detail(json!({"a": 1}));
    let after = Some(Duration::from_millis(1500));
    for result in [
        Ok(Receipt::new()),
        Ok(Receipt::new().provider_id("id-1").detail(json!({"x": "y"}))),
        Err(DeliveryError::Retry { after, reason: reason() }),
        Err(DeliveryError::Retry { after: None, reason: Reason::new("a", "b").uncertain() }),
        Err(DeliveryError::retry(reason().uncertain().suspect("mailbox_full", 3, 30))),
        Err(DeliveryError::throttled(after, reason())),
        Err(DeliveryError::permanent(reason().suspect("disabled", 2, 30))),
        Err(DeliveryError::recipient_gone(reason())),
        Err(DeliveryError::misconfigured(reason())),
    ] {
        assert_eq!(travelled(&Outcome::of_delivery(result.clone())).into_delivery(), result);
    }
    for health in [Health::Ok, Health::Degraded("slow".into()), Health::Failing("down".into())] {
        assert_eq!(travelled(&Outcome::of_health(health.clone())).into_health(), health);
    }
}

#[test]
fn a_cancelled_delivery_was_not_sent_and_of_an_internal_error_nobody_knows() {
    let cancelled = Outcome::new(Status::Cancelled, "", "").into_delivery().unwrap_err();
    assert!(!cancelled.reason().uncertain && cancelled.reason().code == "cancelled");
    let internal = Outcome::new(Status::Internal, "", "").into_delivery().unwrap_err();
    assert!(internal.reason().uncertain && internal.reason().code == "internal");
}

#[test]
fn nothing_that_comes_in_is_trusted_past_its_shape() {
    let long = "ä".repeat(10_000_000 / 2);
    let read = Outcome::read(77, 5, b"\xff\xfe", long.as_bytes(), &[b'i'; 5000], b"{\"a\":");
    assert_eq!((read.status, read.code.as_str(), read.detail), (Status::Internal, "\u{FFFD}\u{FFFD}", None));
    assert!(read.message.len() <= MESSAGE_MAX && read.message.chars().all(|c| c == 'ä'));
    assert_eq!(read.provider_id.map(|id| id.len()), Some(ID_MAX));
    assert!(Outcome::read(77, UNSET, b"", b"", b"", b"").message.contains("77"));
    for detail in ["[1]", "1", "null", &format!("{{\"a\":\"{}\"}}", "x".repeat(DETAIL_MAX))] {
        assert_eq!(Outcome::read(1, 0, b"", b"", b"", detail.as_bytes()).detail, None);
    }
    // Whole characters only, and no longer than promised.
    assert_eq!(cut("aä".as_bytes(), 2), "a");
    assert_eq!(cut("ää".as_bytes(), 2), "ä");
    assert!(cut(&[0xff; 90], 64).len() <= 64);
    let odd = br#"{"campanile_suspect": {"kind": "made up", "limit": 2, "days": 9}, "campanile_uncertain": "yes"}"#;
    let error = Outcome::read(1, UNSET, b"c", b"", b"", odd).into_delivery().unwrap_err();
    assert_eq!((error.reason().suspect, error.reason().uncertain), (Some(("suspect", 2, 9)), false));
    let odd = br#"{"campanile_suspect": {"kind": "disabled", "limit": 0, "days": 9000000000}}"#;
    assert_eq!(Outcome::read(1, UNSET, b"c", b"", b"", odd).into_delivery().unwrap_err().reason().suspect, None);
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Config {
    /// Bot token.
    token: Secret,
    #[serde(default)]
    servers: Vec<Server>,
}
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Server {
    port: u16,
}
struct Probe;
impl Channel for Probe {
    type Config = Config;
    const INFO: Info = info!("probe").recipient("phone").max_batch(5).idempotent(true).content(&["text"]);
    fn validate(config: &Config) -> Result<(), Vec<Problem>> {
        if config.token.expose() == "bad" { Err(vec![Problem::new("token", "is bad")]) } else { Ok(()) }
    }
    async fn start(_: Config, _: Context) -> Result<Self, StartError> {
        Ok(Self)
    }
    async fn deliver(&self, _: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        Ok(Receipt::new())
    }
}

#[test]
fn a_description_is_read_back_as_the_info_it_was() {
    let text = serde_json::to_string(&Description::of::<Probe>()).unwrap();
    let read: Description = serde_json::from_str(&text).unwrap();
    assert_eq!(read.info(), Probe::INFO);
    assert!(std::ptr::eq(read.info().name, read.info().name), "kept once");
    assert_eq!(read.config_schema["properties"]["token"]["x-campanile-secret"], true);
    // The least a C author writes, and keys of the future.
    let least: Description = serde_json::from_str(r#"{"name": "x", "version": "1", "future": {}}"#).unwrap();
    assert_eq!(least.info(), Info::new("x", "1"));
    let greedy = Description { max_batch: usize::MAX, max_concurrency: 0, timeout_ms: u64::MAX, ..least };
    let info = greedy.info();
    assert_eq!((info.max_batch, info.max_concurrency, info.timeout), (1000, 1, Duration::from_secs(300)));
}

#[test]
fn a_wrong_configuration_names_the_key() {
    let problem = |json: &str| match config::<Probe>(json.as_bytes()) {
        Ok(_) => panic!("{json} is accepted"),
        Err(problems) => (problems[0].pointer(), problems[0].message.clone()),
    };
    assert!(config::<Probe>(br#"{"token": "t", "servers": [{"port": 1}]}"#).is_ok());
    assert_eq!(problem(r#"{"token": "bad"}"#), ("/token".into(), "is bad".into()));
    assert_eq!(problem(r#"{"token": "t", "servers": [{"port": 1}, {"port": "x"}]}"#).0, "/servers/1/port");
    assert!(problem(r#"{"token": "t", "tokne": 1}"#).1.contains("tokne"));
    assert_eq!(problem("{}"), (String::new(), "missing field `token`".into()));
    assert_eq!(problem("[]"), (String::new(), "must be an object".into()));
    for garbage in ["", "[", "7", r#"{"token": "t"} x"#] {
        problem(garbage);
    }
}

#[test]
fn problems_travel_with_their_keys() {
    let list = vec![Problem::new("server.url", "is wrong"), Problem::new("", "all of it")];
    assert_eq!(problems(problems_json(&list).as_bytes()), Ok(list));
    assert_eq!(problems(b" \n"), Ok(vec![]));
    assert_eq!(problems(br#"[{"pointer": "/a/b", "message": "m", "more": 1}]"#), Ok(vec![Problem::new("a.b", "m")]));
    assert!(problems(b"{}").is_err());
    assert_eq!(Problem::new("a/b~c", "").pointer(), "/a~1b~0c");
}
