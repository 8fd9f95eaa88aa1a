//! `campanile healthcheck`: exit codes 0, 3 and 4, from the same configuration as the server's.

use campanile_tests::prelude::*;
use std::process::Output;

async fn check(host: &TestHost, words: &[&str], env: &[(&str, String)]) -> (i32, String) {
    let mut command = host.command();
    command.arg("healthcheck").args(words).envs(env.iter().map(|(k, v)| (k, v)));
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ended by itself"), String::from_utf8(said).unwrap())
}

/// The variables of a container whose server listens everywhere.
fn everywhere(port: u16) -> [(&'static str, String); 1] {
    [("CAMPANILE_SERVER__LISTEN", format!("0.0.0.0:{port}"))]
}

#[tokio::test]
async fn a_ready_server_is_found_by_the_configuration_of_serve() {
    let host = TestHost::start().await;
    let port = host.address().port();
    assert_eq!(check(&host, &[], &everywhere(port)).await, (0, "ready\n".to_owned()));
    // A proxy of the environment is not asked about this machine.
    let mut env = everywhere(port).to_vec();
    env.extend(["HTTP_PROXY", "http_proxy"].map(|name| (name, "http://127.0.0.1:9".to_owned())));
    assert_eq!(check(&host, &[], &env).await.0, 0);
    let file = host.folder().join("other.toml");
    std::fs::write(&file, format!("[server]\nlisten = \"localhost:{port}\"\n")).unwrap();
    assert_eq!(check(&host, &["--config", file.to_str().unwrap()], &[]).await.0, 0);
    let (code, said) = check(&host, &["--server", &host.url(""), "--json"], &[]).await;
    assert_eq!((code, &serde_json::from_str::<Value>(&said).unwrap()["status"]), (0, &json!("ready")));
}

#[tokio::test]
async fn a_server_that_drains_is_3_and_one_that_is_gone_4() {
    let mut host = TestHost::builder().text("server.drain_delay", "20s").start().await;
    let env = everywhere(host.address().port());
    host.term();
    let said = until("readiness is off", || async {
        let (code, said) = check(&host, &[], &env).await;
        (code != 0).then_some((code, said))
    })
    .await;
    assert_eq!(said.0, 3, "{}", said.1);
    assert!(said.1.contains("draining"), "{}", said.1);
    host.kill9().await;
    let (code, said) = check(&host, &[], &env).await;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("no answer from"), "{said}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let host = TestHost::start().await;
    let env = everywhere(host.address().port());
    host.freeze();
    let (code, said) = check(&host, &["--timeout", "1"], &env).await;
    host.thaw();
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("within 1 s"), "{said}");
}

#[tokio::test]
async fn what_can_not_be_asked_is_told() {
    let host = TestHost::start().await;
    let (code, said) = check(&host, &[], &everywhere(0)).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("port 0"), "{said}");
    let (code, said) = check(&host, &["--server", "not an address"], &[]).await;
    assert_eq!(code, 2, "{said}");
}
