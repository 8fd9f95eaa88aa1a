//! The commands of docker-compose.yml, run as processes of this machine: the nodes with their variables, the services' own
//! commands and health checks with our ports.

use super::compose::project;
use campanile_tests::{balancer::free_address, prelude::*, smtp::SmtpServer};
use std::process::{Command, Stdio};

fn words(list: &Value) -> Vec<String> {
    list.as_array().expect("a list of words").iter().map(|w| w.as_str().unwrap().to_owned()).collect()
}

/// The command of a health check.
fn check_of(service: &Value) -> Vec<String> {
    let mut test = words(&service["healthcheck"]["test"]);
    assert_eq!(test.remove(0), "CMD", "no shell is needed");
    test
}

/// A node with the variables of the compose file: names of other containers become addresses of this machine's servers.
#[tokio::test]
async fn a_node_runs_with_the_variables_of_the_file() {
    let project = project();
    let node = &project["services"]["campanile-1"];
    let relay = SmtpServer::start().await;
    let mut host = TestHost::builder().production();
    for key in ["server.listen", "auth.api_key", "auth.jwt_secret"] {
        host = host.unset(key);
    }
    let mut host = host.prepare();
    let (database, queue) = (host.engines().database(), host.engines().queue());
    let secrets = host.folder().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    let key = "a-key-of-the-compose-file-0123456789";
    std::fs::write(secrets.join("api_key"), format!("{key}\n")).unwrap();
    std::fs::write(secrets.join("jwt_secret"), token::SECRET).unwrap();
    let mut env = vec![("CAMPANILE_SERVER__LISTEN".to_owned(), "0.0.0.0:0".to_owned())];
    for (name, value) in node["environment"].as_object().unwrap() {
        // Without a value: passed on only when .env sets it.
        let Some(value) = value.as_str() else { continue };
        let here = match name.as_str() {
            "CAMPANILE_DATABASE__URL" => {
                assert!(
                    value.starts_with("postgres://campanile:") && value.ends_with("@postgres:5432/campanile"),
                    "{value}"
                );
                database.clone()
            }
            "CAMPANILE_QUEUE__URL" => {
                assert!(value.starts_with("amqp://campanile:") && value.ends_with("@rabbitmq:5672/%2f"), "{value}");
                queue.clone()
            }
            "CAMPANILE_EMAIL__URL" => {
                assert_eq!(value, "smtp://mailpit:1025");
                format!("smtp://{}", relay.address)
            }
            _ => value.replace("/run/secrets", secrets.to_str().unwrap()),
        };
        env.push((name.clone(), here));
    }
    host.reconfigure(|b| env.iter().fold(b, |b, (name, value)| b.env(name, value)));
    host.launch().await;
    let api = host.api().with_key(key);
    let id = api.accepted(&json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": "T"})).await;
    api.state(&id, "email", "sent").await;
    assert!(relay.received()[0].headers().iter().any(|(_, v)| v.contains("notify@example.org")));

    let check = check_of(node);
    assert_eq!(check[0], "campanile");
    let mut command = host.command();
    command.args(&check[1..]).envs(env);
    command.env("CAMPANILE_SERVER__LISTEN", format!("0.0.0.0:{}", host.address().port()));
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    host.stop().await;
    // Every line of the log is an object.
    let log = host.output();
    let lines: Vec<&str> = log.lines().filter(|l| !l.starts_with("Listening on")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|l| serde_json::from_str::<Value>(l).is_ok()), "{log}");
}

/// A command of a service: the program of this machine, or of the service's own image where the machine has Docker instead.
fn command(service: &Value, words: &[String]) -> Command {
    let postgres = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<_> = postgres.map(|v| v.path().join("bin")).collect();
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let found = places.into_iter().map(|p| p.join(&words[0])).find(|p| p.exists());
    let mut command = if let Some(program) = found {
        Command::new(program)
    } else {
        let mut docker = Command::new("docker");
        docker.args([
            "run",
            "--rm",
            "--network",
            "host",
            "--entrypoint",
            &words[0],
            service["image"].as_str().unwrap(),
        ]);
        docker
    };
    command.args(&words[1..]);
    command
}

fn runs(mut command: Command) -> String {
    let ran = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    assert!(ran.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn the_databases_health_check_is_understood() {
    let url = std::env::var("CAMPANILE_TEST_POSTGRES").expect("`scripts/services/postgres start` names a server");
    let url = reqwest::Url::parse(&url).unwrap();
    let project = project();
    let postgres = &project["services"]["postgres"];
    let check = check_of(postgres);
    assert_eq!(check[0], "pg_isready");
    let mut command = command(postgres, &check);
    // A later word goes over an earlier one.
    command.args(["-h", url.host_str().unwrap(), "-p", &url.port().unwrap_or(5432).to_string()]);
    runs(command);
}

#[tokio::test]
async fn redis_starts_as_told_and_says_so() {
    let project = project();
    let redis = &project["services"]["redis"];
    let port = free_address().port().to_string();
    let mut server = command(redis, &words(&redis["command"]));
    server.args(["--port", &port, "--bind", "127.0.0.1"]).stdout(Stdio::null());
    let mut server = server.spawn().unwrap();
    let check = check_of(redis);
    assert_eq!(check, ["redis-cli", "ping"]);
    let ask = |word: &str| {
        let mut ask = command(redis, &check[..1]);
        ask.args(["-p", &port, word]);
        ask
    };
    let answered = until("redis answers", || async {
        let ran = ask(&check[1]).output().unwrap();
        ran.status.success().then(|| String::from_utf8(ran.stdout).unwrap())
    })
    .await;
    assert_eq!(answered.trim(), "PONG");
    let _ = ask("shutdown").output();
    server.wait().unwrap();
}

/// Asking one of this machine would need its cookie; that the command exists is what can go wrong in the file.
#[test]
fn the_brokers_health_check_is_a_command() {
    let project = project();
    let rabbitmq = &project["services"]["rabbitmq"];
    let check = check_of(rabbitmq);
    assert_eq!(check[0], "rabbitmq-diagnostics");
    let help = [check[0].clone(), "help".into(), check.last().unwrap().clone()];
    assert!(runs(command(rabbitmq, &help)).contains(&help[2]));
}
