//! Channels from files on the real binary: listed by hand, kept apart, taken up again, and refused without stopping anybody.

use super::files_kit::{BOTH, House, c_file, children, said};
use campanile_tests::{host::binary, prelude::*};
use std::{fs, process::Command};

#[tokio::test]
async fn a_plugin_in_c_is_listed_by_hand_and_delivers() {
    let mut house = House::new(|b| b);
    let file = c_file().display().to_string();
    let asked = house.plugin(&["add", &file]).await;
    assert!(!asked.status.success() && said(&asked).contains("nobody is here to be asked"), "{}", said(&asked));
    assert!(said(&asked).contains("c_file 1.0.0") && said(&asked).contains("SHA-256"), "{}", said(&asked));
    assert!(!house.folder.join("plugins.lock").exists());
    house.add(c_file(), &[]).await;
    let list = house.plugin(&["list"]).await;
    assert!(said(&list).contains("c_file") && said(&list).contains("process"), "{}", said(&list));

    house.host.launch().await;
    let known = house.known("c_file").await;
    assert_eq!((&known["version"], &known["origin"]["isolation"]), (&json!("1.0.0"), &json!("process")), "{known}");
    let out = house.host.folder().join("out.txt");
    let wrong = json!({"name": "desk", "plugin": "c_file", "config": {"path": "here"}});
    let refused = house.host.api().post("/api/v1/instances", &wrong).await;
    assert_eq!((refused.problem(422), refused.fields()), ("invalid", vec!["/config/path".to_owned()]));
    house.create(&json!({"name": "desk", "plugin": "c_file", "config": {"path": out}})).await;
    let id = house.send("c_file", "room-7").await;
    house.host.api().state(&id, "c_file", "sent").await;
    assert!(fs::read_to_string(&out).unwrap().starts_with("room-7: "), "it wrote it");
    let metrics = house.host.api().get("/metrics").await.text;
    assert!(metrics.contains("campanile_plugin_call_duration_seconds_count{plugin=\"c_file\"} 1"), "{metrics}");

    // Off the list, it runs on until it is told; then its instances end, and the channel's deliveries wait.
    assert!(house.plugin(&["remove", "c_file"]).await.status.success());
    let id = house.send("c_file", "room-8").await;
    house.host.api().state(&id, "c_file", "sent").await;
    let gone = house.reload("c_file").await;
    assert!(gone.status.success() && said(&gone).contains("listed no more"), "{}", said(&gone));
    assert_eq!(house.instance("desk").await["state"], "failed");
    let unknown = house.reload("c_file").await;
    assert!(!unknown.status.success(), "{}", said(&unknown));
    // Listed again, it is there again.
    house.add(c_file(), &[]).await;
    assert!(house.reload("c_file").await.status.success());
    assert_eq!(house.instance("desk").await["state"], "running");
    house.host.stop().await;
}

#[tokio::test]
async fn a_refused_plugin_is_shown_and_stops_nobody() {
    let mut house = House::new(|b| b);
    house.add(c_file(), &[]).await;
    let name = house.folder.join(c_file().file_name().unwrap());
    let mut bytes = fs::read(&name).unwrap();
    bytes.push(0);
    fs::write(&name, bytes).unwrap();
    let list = house.plugin(&["list"]).await;
    assert!(said(&list).contains("the file has changed since it was listed"), "{}", said(&list));
    house.host.launch().await;
    let known = house.known("c_file").await;
    assert!(known["refusal"]["reason"].as_str().unwrap().contains("has changed since it was listed"), "{known}");
    assert!(house.host.output().contains("is refused at step hash"), "{}", house.host.output());
    let still = house.reload("c_file").await;
    assert!(!still.status.success() && said(&still).contains("has changed"), "{}", said(&still));
    // Listed again as it is, it loads without a new start.
    house.add(&name, &[]).await;
    let reloaded = house.reload("c_file").await;
    assert!(said(&reloaded).contains("reloaded c_file 1.0.0 (process)"), "{}", said(&reloaded));
    let known = house.known("c_file").await;
    assert_eq!((&known["version"], &known["refusal"]), (&json!("1.0.0"), &Value::Null), "{known}");
    until("the audit log has it all", || async {
        let audit = house.host.api().get("/api/v1/audit").await.expect(200);
        let actions: Vec<_> =
            audit["items"].as_array().unwrap().iter().filter_map(|a| a["action"].as_str()).map(str::to_owned).collect();
        let all = ["plugin.refused", "plugin.load", "plugin.reload"];
        all.iter().all(|wanted| actions.iter().any(|a| a == wanted)).then_some(())
    })
    .await;
    house.host.stop().await;
}

#[tokio::test]
async fn doctor_looks_at_the_folder_and_at_each_file() {
    let house = House::new(|b| b);
    house.add(c_file(), &[]).await;
    let doctor = async || {
        let mut command = house.host.command();
        command.args(["doctor", "--json"]).env("CAMPANILE_SERVER__DATA_DIR", house.host.data_dir());
        command.env("CAMPANILE_SERVER__LISTEN", "127.0.0.1:0").env("CAMPANILE_PLUGINS__DIR", &house.folder);
        let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let all: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
        all.into_iter().filter(|f| f["what"] == "plugins").map(|f| f.to_string()).collect::<Vec<_>>().join("\n")
    };
    let found = doctor().await;
    assert!(found.contains("c_file 1.0.0 in a process of its own") && !found.contains("\"wrong\""), "{found}");
    let lock = house.folder.join("plugins.lock");
    let listed = fs::read_to_string(&lock).unwrap();
    let start = listed.find("sha256 = \"").unwrap() + 10;
    let other = format!("{}{}{}", &listed[..start], "0".repeat(64), &listed[start + 64..]);
    fs::write(&lock, other).unwrap();
    let found = doctor().await;
    assert!(found.contains("c_file would be refused: the file has changed") && found.contains("plugin add"), "{found}");
    fs::write(&lock, "what is this").unwrap();
    assert!(doctor().await.contains("\"wrong\""));
}

#[tokio::test]
async fn fifty_reloads_leave_nothing_behind() {
    for isolation in BOTH {
        let mut house = House::new(|b| b);
        house.add(c_file(), &["--isolation", isolation]).await;
        house.host.launch().await;
        let out = house.host.folder().join("out.txt");
        house.create(&json!({"name": "desk", "plugin": "c_file", "config": {"path": out}})).await;
        let threads = || fs::read_dir(format!("/proc/{}/task", house.host.pid())).unwrap().count();
        let named = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", house.host.pid())).unwrap().flatten();
            let names = tasks.filter_map(|t| fs::read_to_string(t.path().join("comm")).ok());
            names.filter(|name| name.starts_with("c_file.")).count()
        };
        let reload = async || {
            house.host.api().post("/api/v1/plugins/c_file/reload", &json!({})).await.expect(200);
            let id = house.send("c_file", "room-7").await;
            house.host.api().state(&id, "c_file", "sent").await;
        };
        reload().await;
        until("the first old one is gone", || async { (children(house.host.pid()).len() < 2).then_some(()) }).await;
        let (memory, lanes) = (house.host.private_bytes(), named());
        for _ in 0..50 {
            reload().await;
        }
        until("the old ones are gone", || async {
            let alone = children(house.host.pid()).len() == usize::from(isolation == "process");
            (alone && named() <= lanes).then_some(())
        })
        .await;
        let grown = house.host.private_bytes().saturating_sub(memory);
        assert!(grown < 50 * 600 * 1024, "{isolation}: it grew by {grown} bytes, with {} threads", threads());
        house.host.stop().await;
    }
}

#[test]
fn the_host_offers_no_names_to_what_it_loads() {
    let out = Command::new("nm").args(["-D", "--defined-only"]).arg(binary()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let names = String::from_utf8_lossy(&out.stdout).into_owned();
    let functions: Vec<_> = names.lines().filter(|l| l.contains(" T ")).collect();
    assert!(functions.is_empty(), "{functions:?}");
}
