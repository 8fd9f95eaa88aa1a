//! What the machine gives: folder, clock, port, open files, disk.

use super::Finding;
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

pub fn clock(newest: Option<Timestamp>) -> Finding {
    const WHAT: &str = "clock";
    let now = SystemClock.now();
    let fix = "set the clock, and keep it with NTP: timedatectl set-ntp true";
    if BORN.parse::<Timestamp>().is_ok_and(|born| now < born) {
        return Finding::wrong(WHAT, format!("says {}", now.format("%F %T UTC")), fix);
    }
    match newest {
        Some(newest) if newest > now + Duration::from_secs(5) => {
            let behind = (newest - now).num_seconds();
            Finding::wrong(WHAT, format!("is {behind} s behind the newest notification in the database"), fix)
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
    const WHAT: &str = "open files";
    let limit = getrlimit(Resource::Nofile);
    // The server raises its own limit up to the hard one when it starts.
    match limit.maximum {
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
    let free = fs.f_bavail * fs.f_frsize / MIB;
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
        assert_eq!(clock(Some(SystemClock.now() + Duration::from_hours(1))).verdict, Verdict::Wrong);
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
        super::super::super::install_tls();
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
