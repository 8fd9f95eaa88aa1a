//! What the machine gives: folder, clock, port, open files, disk.

use super::{Finding, database::Witness};
use campanile_model::{Clock, Timestamp, clock::SystemClock};
use rustix::{
    fs::{Access, access, statvfs},
    process::{Resource, getrlimit},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

/// This code is younger than this, so a clock that says less is wrong.
const BORN: &str = "2026-01-01T00:00:00Z";
/// Each connection is a file; the rest is for the database and what is under way.
const FILES_FEW: u64 = 4096;
const MIB: u64 = 1 << 20;

pub fn data_dir(dir: &Path) -> Finding {
    const WHAT: &str = "data folder";
    let shown = dir.display();
    let Ok(meta) = fs::metadata(dir) else {
        let above = dir.ancestors().skip(1).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        let parent = above.into_iter().find(|p| p.exists()).unwrap_or(Path::new("."));
        return match access(parent, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Finding::good(WHAT, format!("{shown} (made at the first start)")),
            Err(_) => Finding::wrong(
                WHAT,
                format!("{shown} can't be made in {}", parent.display()),
                "set server.data_dir to a folder of yours",
            ),
        };
    };
    if !meta.is_dir() {
        return Finding::wrong(WHAT, format!("{shown} is not a folder"), "set server.data_dir to a folder");
    }
    if access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::wrong(
            WHAT,
            format!("{shown} is not writable for this user"),
            format!("chown -R $(id -un) {shown}"),
        );
    }
    if meta.permissions().mode() & 0o002 != 0 {
        return Finding::look(WHAT, format!("{shown} is writable for everybody"), format!("chmod 700 {shown}"));
    }
    Finding::good(WHAT, shown.to_string())
}

pub fn clock(witness: Option<Witness>) -> Finding {
    const WHAT: &str = "clock";
    let now = SystemClock.now();
    let fix = "set the clock, and keep it with NTP: timedatectl set-ntp true";
    if BORN.parse::<Timestamp>().is_ok_and(|born| now < born) {
        return Finding::wrong(WHAT, format!("says {}", now.format("%F %T UTC")), fix);
    }
    match witness {
        Some(Witness::Newest(newest)) if newest > now + Duration::from_secs(5) => {
            let behind = (newest - now).num_seconds();
            Finding::wrong(WHAT, format!("is {behind} s behind the newest notification in the database"), fix)
        }
        Some(Witness::Server { ours, theirs }) => {
            let off = (ours - theirs).num_milliseconds() as f64 / 1000.0;
            let side = if off < 0.0 { "behind" } else { "ahead of" };
            let text = format!("is {:.1} s {side} the database's", off.abs());
            // Due times go by the database's clock; tokens, expiry at the door and logs by ours.
            match off.abs() {
                30.0.. => Finding::wrong(WHAT, text, format!("on both machines: {fix}")),
                1.0.. => Finding::look(WHAT, text, format!("on both machines: {fix}")),
                _ => Finding::good(WHAT, format!("{}, the database agrees", now.format("%F %T UTC"))),
            }
        }
        _ => Finding::good(WHAT, now.format("%F %T UTC").to_string()),
    }
}

pub async fn port(listen: &str) -> Finding {
    const WHAT: &str = "port";
    match tokio::net::TcpListener::bind(listen).await {
        Ok(_) => Finding::good(WHAT, format!("{listen} is free")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && healthy(listen).await => {
            Finding::good(WHAT, format!("{listen} is served by Campanile"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            Finding::wrong(WHAT, format!("{listen} is in use by another program"), "stop it, or set server.listen")
        }
        Err(e) => Finding::wrong(WHAT, format!("{listen}: {e}"), "set server.listen to an address of this machine"),
    }
}

async fn healthy(listen: &str) -> bool {
    let host = listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build() else {
        return false;
    };
    client.get(format!("http://{host}/healthz")).send().await.is_ok_and(|r| r.status().is_success())
}

pub fn file_limit() -> Finding {
    // The server raises its own limit up to the hard one when it starts.
    files(getrlimit(Resource::Nofile).maximum)
}

fn files(most: Option<u64>) -> Finding {
    const WHAT: &str = "open files";
    match most {
        None => Finding::good(WHAT, "unlimited"),
        Some(hard) if hard < FILES_FEW => Finding::look(
            WHAT,
            format!("at most {hard}, so about {} connections", hard * 4 / 5),
            "raise it: ulimit -Hn 65536, or LimitNOFILE=65536 in the service",
        ),
        Some(hard) => Finding::good(WHAT, format!("up to {hard}")),
    }
}

pub fn disk(dir: &Path) -> Finding {
    const WHAT: &str = "disk";
    let existing = dir.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let Ok(fs) = statvfs(existing) else {
        return Finding::look(WHAT, format!("the free space of {} can't be read", existing.display()), "df -h");
    };
    room(fs.f_bavail * fs.f_frsize / MIB)
}

/// `free` in MiB.
fn room(free: u64) -> Finding {
    const WHAT: &str = "disk";
    let text = if free >= 10_240 { format!("{} GiB free", free / 1024) } else { format!("{free} MiB free") };
    match free {
        0..100 => Finding::wrong(WHAT, text, "make room: a full disk stops every accept"),
        100..1024 => Finding::look(WHAT, text, "make room, or shorten retention.*"),
        _ => Finding::good(WHAT, text),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_clock_behind_the_data_is_wrong() {
        assert_eq!(clock(None).verdict, Verdict::Good);
        let ahead = SystemClock.now() + Duration::from_hours(1);
        assert_eq!(clock(Some(Witness::Newest(ahead))).verdict, Verdict::Wrong);
    }

    #[test]
    fn a_clock_that_differs_from_the_databases_is_told() {
        let ours = SystemClock.now();
        let off = |ms: i64| clock(Some(Witness::Server { ours, theirs: ours - chrono::Duration::milliseconds(ms) }));
        assert_eq!(off(-900).verdict, Verdict::Good);
        assert_eq!(off(2500), Finding { text: "is 2.5 s ahead of the database's".to_owned(), ..off(2500) });
        assert_eq!((off(-2500).verdict, off(60_000).verdict), (Verdict::Look, Verdict::Wrong));
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_told_in_time() {
        for (free, verdict) in [(50, Verdict::Wrong), (500, Verdict::Look), (20_000, Verdict::Good)] {
            assert_eq!(room(free).verdict, verdict, "{free} MiB");
        }
        assert!(room(500).fix.unwrap().contains("retention"));
    }

    #[test]
    fn few_files_are_few_connections() {
        assert_eq!(files(None).verdict, Verdict::Good);
        assert_eq!(files(Some(65_536)).verdict, Verdict::Good);
        assert_eq!(files(Some(1000)).text, "at most 1000, so about 800 connections");
    }

    #[test]
    fn a_folder_to_be_made_is_fine_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(data_dir(&dir.path().join("a/b")).verdict, Verdict::Good);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(data_dir(&file).verdict, Verdict::Wrong);
        assert_eq!(data_dir(Path::new("not-there-yet")).verdict, Verdict::Good);
    }

    #[tokio::test]
    async fn a_port_in_foreign_hands_is_wrong() {
        crate::cli::install_tls();
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((socket, _)) = taken.accept().await {
                drop(socket);
            }
        });
        assert_eq!(port(&address).await.verdict, Verdict::Wrong);
        assert_eq!(port("127.0.0.1:0").await.verdict, Verdict::Good);
    }
}
