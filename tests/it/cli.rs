//! The command line: what `serve --dev` prints and writes, and the client commands against a running server.

use campanile_tests::{host::API_KEY, prelude::*};
use std::{
    io::Write,
    process::{Output, Stdio},
};

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().expect("it ended by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a client command beside this host, as a second terminal would.
async fn run(host: &TestHost, words: &[&str]) -> Said {
    run_with(host, words, &[], "").await
}

async fn run_with(host: &TestHost, words: &[&str], env: &[(&str, &str)], input: &str) -> Said {
    let mut command = host.command();
    command.args(words).envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    said(tokio::time::timeout(Duration::from_mins(1), ran).await.expect("the command ends").unwrap())
}

#[tokio::test]
async fn dev_mode_needs_nothing_and_a_second_terminal_just_works() {
    let mut host = TestHost::builder().unset("auth.api_key").unset("auth.jwt_secret").dev().start().await;
    let record = until("dev.json is written", || async {
        let path = host.folder().join("run/campanile/dev.json");
        let meta = std::fs::metadata(&path).ok()?;
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "dev.json holds a key");
        serde_json::from_str::<Value>(&std::fs::read_to_string(path).ok()?).ok()
    })
    .await;
    assert!(record.to_string().contains(&host.address().port().to_string()), "{record}");
    let banner = until("the banner is out", || async {
        let text = host.output();
        text.contains("curl").then_some(text)
    })
    .await;
    for part in ["/demo", "/dev/mail", "curl"] {
        assert!(banner.contains(part), "{part} is not in the banner: {banner}");
    }

    // The documented words, without any address or key.
    let sent = run(&host, &["send", "--to", "ada", "--title", "Hello", "--wait"]).await;
    assert_eq!(sent.code, 0, "{}{}", sent.out, sent.err);
    assert!(sent.out.contains("websocket") && sent.out.contains("email"), "{}", sent.out);
    let token = run(&host, &["token", "ada"]).await;
    assert_eq!(token.code, 0, "{}", token.err);
    let feed = host.api().with_key(token.out.trim()).feed().await;
    assert!(feed.iter().any(|i| i["title"] == "Hello"), "{feed:?}");
    // Caught mail, of the first notification and of this one.
    let caught = host.api().anonymous().get("/dev/mail").await;
    assert_eq!(caught.status, 200);
    assert!(caught.text.contains("Hello"), "{}", caught.text);
    let json = run(&host, &["send", "--to", "bo", "--title", "T", "--json"]).await;
    let answer: Value = serde_json::from_str(&json.out).unwrap_or_else(|e| panic!("{e}: {}", json.out));
    assert!(answer["notification_id"].is_string());
    host.stop().await;
    let gone = run(&host, &["send", "--to", "ada", "--title", "T"]).await;
    assert_eq!(gone.code, 4, "{}{}", gone.out, gone.err);
    assert!(!gone.err.is_empty());
}

#[tokio::test]
async fn client_commands_speak_to_a_server_and_key() {
    let host = TestHost::start().await;
    let address = host.url("");
    let at = ["--server", address.as_str(), "--key", API_KEY];
    let call = async |words: &[&str]| run(&host, &[words, &at].concat()).await;
    let made = call(&["user", "add", "ada", "--email", "ada@example.org"]).await;
    assert_eq!(made.code, 0, "{}{}", made.out, made.err);
    let shown = call(&["user", "show", "ada"]).await;
    assert!(shown.out.contains("ada@example.org"), "{}", shown.out);
    let sent = run_with(
        &host,
        &[&["send", "--to", "ada", "--title", "T", "--body", "-", "--channel", "websocket"][..], &at].concat(),
        &[],
        "from stdin",
    )
    .await;
    assert_eq!(sent.code, 0, "{}", sent.err);
    assert_eq!(host.me("ada").feed().await[0]["message"], "from stdin");
    let unsure = call(&["user", "merge", "anon-1", "--into", "ada"]).await;
    assert!(unsure.code == 2 && unsure.err.contains("merge anon-1 --into ada --yes"), "{}{}", unsure.out, unsure.err);
    host.api().notify("anon-1", "before").await;
    let merged = call(&["user", "merge", "anon-1", "--into", "ada", "--yes"]).await;
    assert!(
        merged.code == 0 && merged.out.contains("1 deliveries and 1 feed items moved"),
        "{}{}",
        merged.out,
        merged.err
    );
    let key = call(&["key", "create", "--name", "app", "--scopes", "send,read"]).await;
    assert_eq!(key.code, 0, "{}{}", key.out, key.err);
    let secret =
        key.out.split_whitespace().find(|w| w.starts_with("cmp_")).unwrap_or_else(|| panic!("{}", key.out)).to_owned();
    host.api().with_key(&secret).notify("ada", "by key").await;
    let id = secret.split('_').nth(1).unwrap();
    let next = call(&["key", "rotate", id, "--overlap", "1h"]).await;
    assert!(next.code == 0 && next.err.contains("works until"), "{}{}", next.out, next.err);
    host.api().with_key(next.out.trim()).notify("ada", "by its successor").await;
    host.api().with_key(&secret).notify("ada", "still by the first").await;
    assert_eq!(call(&["key", "rotate", id, "--overlap", "soon"]).await.code, 2);
    for words in [&["queue", "ls"][..], &["dead", "ls"], &["channel", "list"]] {
        let said = call(words).await;
        assert_eq!(said.code, 0, "{words:?}: {}{}", said.out, said.err);
    }
    let by_env =
        run_with(&host, &["channel", "list"], &[("CAMPANILE_SERVER", &address), ("CAMPANILE_KEY", API_KEY)], "").await;
    assert_eq!(by_env.code, 0, "{}", by_env.err);
    assert!(by_env.out.contains("websocket"), "{}", by_env.out);
    let refused = run(&host, &["channel", "list", "--server", &address, "--key", "wrong"]).await;
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(!refused.err.contains("wrong-key"), "a key is printed");
}

#[tokio::test]
async fn tail_shows_deliveries_as_they_happen() {
    let host = TestHost::start().await;
    let address = host.url("");
    let mut command = host.command();
    command.args(["tail", "--server", &address, "--key", API_KEY]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (tell, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        use std::io::BufRead;
        for line in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    // The tail is on its way up: send until it shows one.
    let mut shown = Vec::new();
    until("tail shows a delivery", || {
        while let Ok(line) = lines.try_recv() {
            shown.push(line);
        }
        let found = shown.iter().any(|l| l.contains("sent") && l.contains("websocket"));
        let api = host.api();
        async move {
            if found {
                return Some(());
            }
            api.notify("ada", "T").await;
            None
        }
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn config_check_names_every_mistake_and_the_nearest_key() {
    let host = TestHost::builder().spawn();
    let file = host.folder().join("bad.toml");
    std::fs::write(&file, "server.lissten = \"x\"\nworker.lease = \"soon\"\n[retrry]\nx = 1\n").unwrap();
    let file = file.to_str().unwrap();
    let bad = run(&host, &["config", "check", "--config", file]).await;
    assert_eq!(bad.code, 1, "{}{}", bad.out, bad.err);
    let text = format!("{}{}", bad.out, bad.err);
    for part in ["server.lissten", "listen", "worker.lease", "retrry"] {
        assert!(text.contains(part), "{part} is not named: {text}");
    }
    let served = run(&host, &["serve", "--config", file]).await;
    assert_ne!(served.code, 0);
    let env = run_with(&host, &["config", "check"], &[("CAMPANILE_SERVER__LISSTEN", "x")], "").await;
    assert_eq!(env.code, 1, "{}{}", env.out, env.err);
    let good = run_with(
        &host,
        &["config", "check"],
        &[("CAMPANILE_SERVER__LISTEN", "127.0.0.1:0"), ("CAMPANILE_HOME", "not configuration")],
        "",
    )
    .await;
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
}

#[tokio::test]
async fn exit_codes() {
    let host = TestHost::start().await;
    let address = host.url("");
    for (words, code) in [
        (vec!["--version"], 0),
        (vec!["version"], 0),
        (vec!["nonsense"], 2),
        (vec!["send", "--title", "T"], 2),
        (vec!["send", "--to", "a", "--title", "", "--server", &address, "--key", API_KEY], 1),
        (vec!["send", "--to", "a", "--title", "T", "--server", "http://127.0.0.1:1", "--key", "k"], 4),
        (vec!["openapi"], 0),
    ] {
        let said = run(&host, &words).await;
        assert_eq!(said.code, code, "{words:?}: {}{}", said.out, said.err);
        if code != 0 {
            assert!(!said.err.trim().is_empty(), "{words:?} fails silently");
        }
    }
    let document = run(&host, &["openapi"]).await;
    let document: Value = serde_json::from_str(&document.out).unwrap();
    assert_eq!(document, host.api().get("/api/openapi.json").await.expect(200), "the command and the server agree");
}

#[tokio::test]
async fn migrate_and_doctor_look_at_the_same_folder() {
    let mut host = TestHost::start().await;
    host.stop().await;
    let data = host.data_dir();
    let env = [("CAMPANILE_SERVER__DATA_DIR", data.to_str().unwrap())];
    let status = run_with(&host, &["migrate", "status"], &env, "").await;
    assert_eq!(status.code, 0, "{}{}", status.out, status.err);
    let up = run_with(&host, &["migrate", "up"], &env, "").await;
    assert_eq!(up.code, 0, "{}{}", up.out, up.err);
    let doctor = run_with(&host, &["doctor"], &env, "").await;
    assert!(matches!(doctor.code, 0 | 3), "{}{}", doctor.out, doctor.err);
    assert!(!doctor.out.is_empty());
}
