//! The loader and the document, seen from outside.

use super::*;
use serde::{
    Deserialize,
    de::{Deserializer, Error, Visitor, value},
    forward_to_deserialize_any,
};
use std::{collections::BTreeSet, io::Write, path::Path};

/// Learns a struct's field names from its `Deserialize`.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = value::Error;
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
        Err(value::Error::custom("not a struct"))
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, value::Error> {
        *self.0 = fields;
        Err(value::Error::custom("seen enough"))
    }
    forward_to_deserialize_any! { bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
    unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any }
}

fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    let _ = T::deserialize(Fields(&mut found));
    found
}

#[test]
fn the_document_and_the_structs_know_the_same_keys() {
    let sections: [(&str, &[&str]); 16] = [
        ("server", fields::<server::Server>()),
        ("database", fields::<database::Database>()),
        ("queue", fields::<queue::Queue>()),
        ("bus", fields::<bus::Bus>()),
        ("cluster", fields::<cluster::Cluster>()),
        ("auth", fields::<auth::Auth>()),
        ("email", fields::<email::Email>()),
        ("websocket", fields::<websocket::Websocket>()),
        ("ingest", fields::<ingest::Ingest>()),
        ("worker", fields::<worker::Worker>()),
        ("retry", fields::<retry::Retry>()),
        ("retention", fields::<retention::Retention>()),
        ("plugins", fields::<plugins::Plugins>()),
        ("admin", fields::<admin::Admin>()),
        ("metrics", fields::<metrics::Metrics>()),
        ("log", fields::<log::Log>()),
    ];
    assert_eq!(fields::<Config>().to_vec(), sections.map(|s| s.0).to_vec());
    let structs: BTreeSet<String> =
        sections.iter().flat_map(|(section, keys)| keys.iter().map(move |k| format!("{section}.{k}"))).collect();
    let document: BTreeSet<String> = document::keys().iter().map(document::Key::path).collect();
    assert_eq!(structs, document);
}

fn with_env(env: &[(&str, &str)]) -> Result<Loaded, check::Invalid> {
    load(Some(Path::new("/dev/null")), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), &[])
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn the_defaults_are_valid() {
    let loaded = with_env(&[]).unwrap();
    assert_eq!(loaded.config.server.listen, "127.0.0.1:8000");
    assert!(loaded.settings.iter().all(|s| s.source.is_none()));
    assert_eq!(defaults().unwrap().retry.schedule.len(), 8);
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let f = file("[server]\nlisten = \"127.0.0.1:1\"\ndata_dir = \"from-file\"\n[retry]\njitter = 0.5\n");
    let env = [("CAMPANILE_SERVER__LISTEN", "127.0.0.1:2"), ("CAMPANILE_RETRY__SCHEDULE", "1s, 2s")];
    let env = || env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let listen = Flag { key: "server.listen", value: "127.0.0.1:3".into(), source: "--listen", weak: false };
    let data = Flag { key: "server.data_dir", value: "temporary".into(), source: "--dev", weak: true };

    let c = load(Some(f.path()), env(), std::slice::from_ref(&data)).unwrap();
    assert_eq!(c.config.server.listen, "127.0.0.1:2");
    assert_eq!(c.config.server.data_dir, Path::new("from-file"), "a weak flag gives way");
    assert!((c.config.retry.jitter - 0.5).abs() < f64::EPSILON);
    assert_eq!(c.config.retry.schedule.len(), 2);
    let source = |key: &str| c.settings.iter().find(|s| s.key.path() == key).unwrap().source.clone();
    assert_eq!(source("server.listen").unwrap(), "the environment, CAMPANILE_SERVER__LISTEN");
    assert_eq!(source("retry.jitter").unwrap(), f.path().display().to_string());
    assert_eq!(source("retry.max_age"), None);

    let c = load(None, env(), &[listen, data]).unwrap();
    assert_eq!(c.config.server.listen, "127.0.0.1:3");
    assert_eq!(c.config.server.data_dir, Path::new("temporary"));
}

#[test]
fn a_channel_may_have_a_target_of_its_own() {
    assert_eq!(defaults().unwrap().queue.target_ms("email"), 60_000);
    let env = [("CAMPANILE_QUEUE__TARGET_AGE", "2m"), ("CAMPANILE_QUEUE__TARGET_AGES", "email=5m, sms = 20s")];
    let queue = with_env(&env).unwrap().config.queue;
    assert_eq!(["email", "sms", "webhook"].map(|c| queue.target_ms(c)), [300_000, 20_000, 120_000]);
    for (wrong, why) in [
        ("email", "write email=5m"),
        ("email=soon", "is not a duration"),
        ("=5m", "must begin with a small letter"),
        ("email=0s", "more than 0"),
        ("email=1m, email=2m", "names email twice"),
    ] {
        let said = with_env(&[("CAMPANILE_QUEUE__TARGET_AGES", wrong)]).unwrap_err().to_string();
        assert!(said.contains("queue.target_ages") && said.contains(why), "{wrong}: {said}");
    }
    let said = with_env(&[("CAMPANILE_QUEUE__TARGET_AGE", "0s")]).unwrap_err().to_string();
    assert!(said.contains("queue.target_age: must be more than 0"), "{said}");
}

#[test]
fn the_environment_takes_lists_numbers_bools_and_empties() {
    let c = with_env(&[
        ("CAMPANILE_WEBSOCKET__ORIGINS", "https://a.example, https://b.example"),
        ("CAMPANILE_EMAIL__TRANSACTIONAL", "[\"receipt\", \"password_reset\"]"),
        ("CAMPANILE_WEBSOCKET__QUERY_TOKEN", "false"),
        ("CAMPANILE_DATABASE__READERS", "7"),
        ("CAMPANILE_SERVER__PUBLIC_URL", ""),
        ("CAMPANILE_SERVER", "https://not-configuration.example"),
        ("CAMPANILE_KEY", "not configuration"),
    ])
    .unwrap();
    assert_eq!(c.config.websocket.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(c.config.email.transactional, ["receipt", "password_reset"]);
    assert!(!c.config.websocket.query_token);
    assert_eq!(c.config.database.readers, 7);
    assert_eq!(c.config.server.public_url, None);
}

#[test]
fn every_wrong_value_is_told_of_at_once() {
    let e = with_env(&[
        ("CAMPANILE_SERVER__LISEN", "127.0.0.1:1"),
        ("CAMPANILE_SERVER__DRAIN_TIMEOUT", "soon"),
        ("CAMPANILE_DATABASE__READERS", "many"),
        ("CAMPANILE_EMAIL__URL", "smtp://u:hunter2@mail.example:25"),
        ("CAMPANILE_RETRY__JITTER", "3"),
        ("CAMPANILE_RETRY__SCHEDULE", ""),
        ("CAMPANILE_WEBSOCKET__ORIGINS", "*"),
        ("CAMPANILE_AUTH__JWT_SECRET", "short"),
        ("CAMPANILE_LOG__FORMAT", "xml"),
        ("CAMPANILE_QUEUE__URL", "amqp://ada:hunter2@localhost?hearbeat=10"),
    ])
    .unwrap_err();
    let text = e.to_string();
    for expected in [
        "server.lisen: unknown key in the environment, CAMPANILE_SERVER__LISEN; did you mean server.listen?",
        "server.drain_timeout: \"soon\" is not a duration",
        "database.readers: ",
        "email.url: holds a password but the connection is plain",
        "email.from: is required",
        "retry.jitter: must be between 0 and 1",
        "retry.schedule: must hold at least one delay",
        "websocket.origins: \"*\" is not an origin",
        "auth.jwt_secret: must be at least 32 bytes",
        "log.format: ",
        "queue.url: has the parameter \"hearbeat\"; only cacertfile is known",
        "(from the environment, CAMPANILE_RETRY__JITTER)",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("\"short\""), "{text}");
}

#[test]
fn a_key_in_the_wrong_section_is_found() {
    let f = file("listen = \"127.0.0.1:1\"\n[email]\nlisten = \"x\"\n[servr]\nlisten = \"y\"\n");
    let e = load(Some(f.path()), [], &[]).unwrap_err();
    assert_eq!(e.complaints.len(), 3, "{e}");
    assert!(e.complaints.iter().all(|c| c.text.contains("did you mean server.listen?")), "{e}");
}

#[test]
fn a_section_with_a_slip_is_found() {
    let f = file("[retrry]\nx = 1\n");
    let e = load(Some(f.path()), [], &[]).unwrap_err();
    assert!(e.to_string().contains("did you mean the section [retry]?"), "{e}");
}

#[test]
fn secrets_come_from_files_once_and_never_print() {
    let secret = file("  0123456789012345678901234567890123456789\n");
    let path = secret.path().to_str().unwrap();
    let c = with_env(&[("CAMPANILE_AUTH__JWT_SECRET_FILE", path)]).unwrap();
    assert_eq!(c.config.auth.jwt_secret.expose(), "0123456789012345678901234567890123456789");
    let shown = format!("{c:?}");
    assert!(!shown.contains("0123456789012345"), "{shown}");

    let both =
        [("CAMPANILE_AUTH__JWT_SECRET_FILE", path), ("CAMPANILE_AUTH__JWT_SECRET", "9".repeat(40).leak() as &str)];
    assert!(with_env(&both).unwrap_err().to_string().contains("both this and auth.jwt_secret_file are set"));
    let missing = [("CAMPANILE_METRICS__TOKEN_FILE", "/nowhere/token")];
    assert!(with_env(&missing).unwrap_err().to_string().contains("metrics.token_file: /nowhere/token can't be read"));
}

#[test]
fn a_file_that_is_not_there_or_not_toml_says_so() {
    let missing = load(Some(Path::new("/nowhere/campanile.toml")), [], &[]).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/campanile.toml: can't be read"));
    let f = file("[server\n");
    assert!(load(Some(f.path()), [], &[]).unwrap_err().to_string().contains("is not TOML"));
}

#[test]
fn passwords_in_urls_are_masked() {
    assert_eq!(load::mask_password("postgres://u:hunter2@db/x"), "postgres://u:…@db/x");
    assert_eq!(load::mask_password("plain text"), "plain text");
}

#[test]
fn the_bus_is_the_queues_or_one_of_its_own() {
    use bus::Target;
    let target = |env: &[(&str, &str)]| {
        let config = with_env(env).unwrap().config;
        config.bus.target(&config.queue).unwrap()
    };
    assert!(matches!(target(&[]), Target::Embedded));
    assert!(matches!(target(&[("CAMPANILE_BUS__URL", "embedded")]), Target::Embedded));
    assert!(matches!(target(&[("CAMPANILE_BUS__URL", "amqp://u:p@broker/vhost")]), Target::Rabbit(_)));
    assert!(matches!(target(&[("CAMPANILE_BUS__URL", "rediss://u:p@redis/?channel=x")]), Target::Redis(_)));
    assert!(matches!(target(&[("CAMPANILE_QUEUE__URL", "amqp://u:p@broker/vhost")]), Target::Rabbit(_)));
    let apart = [("CAMPANILE_QUEUE__URL", "amqp://u:p@broker/vhost"), ("CAMPANILE_BUS__URL", "redis://redis")];
    assert!(matches!(target(&apart), Target::Redis(_)));
    let once = with_env(&[("CAMPANILE_QUEUE__URL", "amqp://u:p@broker/a/b")]).unwrap_err();
    assert!(once.complaints.iter().all(|c| c.key == "queue.url"), "{once}");
    let secret = file("redis://u:hunter2@redis:7000\n");
    let loaded = with_env(&[("CAMPANILE_BUS__URL_FILE", secret.path().to_str().unwrap())]).unwrap();
    assert!(matches!(loaded.config.bus.target(&loaded.config.queue).unwrap(), Target::Redis(_)));
    let shown = format!("{:?} {:?}", loaded.config, loaded.settings.iter().map(|s| &s.shown).collect::<Vec<_>>());
    assert!(!shown.contains("hunter2"), "{shown}");
    for (wrong, why) in [
        ("kafka://u:hunter2@x", "must be \"embedded\", amqp://"),
        ("redis://u:hunter2@x/?chanel=y", "channel is the only parameter"),
        ("amqp://u:hunter2@x/a/b", "vhost with a slash"),
    ] {
        let said = with_env(&[("CAMPANILE_BUS__URL", wrong)]).unwrap_err().to_string();
        assert!(said.contains("bus.url") && said.contains(why) && !said.contains("hunter2"), "{said}");
    }
}
