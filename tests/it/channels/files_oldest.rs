//! What is made today, in the oldest host that there can be: nothing of the interface may be needed that 1.0 did not have, and
//! nothing be read that a host did not say it has.

use super::files_kit::{c_file, email, good, root, stdout, target, villain};
use campanile_tests::prelude::*;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn host() -> PathBuf {
    let out = target().join(format!("oldest-host-{}", std::process::id()));
    let source = root().join("plugins/examples/oldest/host.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c89", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    good(gcc.arg(source).arg("-o").arg(&out).arg("-ldl"));
    out
}

#[test]
fn todays_sdk_and_header_run_in_the_oldest_host() {
    const SENT: &str = "0";
    const RETRY: &str = "1";
    let host = host();
    let life = |plugin: &Path, config: &Value, to: &str, ends: &str| -> Output {
        Command::new(&host).arg(plugin).args([&config.to_string(), to, ends]).output().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = json!({"path": folder.path().join("out.txt")});
    // Nobody listens on port 9, so mail is to be tried again; what counts is that its runtime of its own lives and ends here.
    let relay = json!({"url": "smtp://127.0.0.1:9", "from": "Campanile <notify@example.org>"});
    for (plugin, config, to, ends) in [
        (c_file(), &file, "room-7", SENT),
        (stdout(), &json!({"prefix": "> "}), "ada", SENT),
        (&email(), &relay, "ada@example.org", RETRY),
    ] {
        let out = life(plugin, config, to, ends);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}: {}: {said}", plugin.display(), out.status);
    }
    let told = life(stdout(), &json!({}), "ada", SENT).stdout;
    assert_eq!(String::from_utf8_lossy(&told), "ada: Doors open\n".repeat(2));

    // It would have seen it.
    let villain = villain(&[]);
    let twice = life(&villain, &json!({}), "twice", SENT);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("no token of ours"), "{twice:?}");
    let past_its_size = life(&villain, &json!({}), "until cancelled", "6");
    assert_eq!(past_its_size.status.code(), None, "a function behind the table's end was called: {past_its_size:?}");
}
