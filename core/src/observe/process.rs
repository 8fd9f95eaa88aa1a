//! The standard `process_*` metrics, read from /proc when asked.

use campanile_model::Timestamp;
use std::fmt::Write;

/// Linux counts CPU time for user space in hundredths of a second on every architecture.
const TICKS: f64 = 100.0;

/// Adds the block before the closing `# EOF`. What can't be read is left out.
pub fn append(page: &mut String, started_at: Timestamp) {
    const END: &str = "# EOF\n";
    let end = page.ends_with(END);
    if end {
        page.truncate(page.len() - END.len());
    }
    let mut add = |name: &str, kind: &str, help: &str, sample: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a String can't fail.
            let _ = writeln!(page, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{sample} {value}");
        }
    };
    add("process_cpu_seconds", "counter", "User and system CPU time", "process_cpu_seconds_total", cpu_seconds());
    let (resident, files, limit, start) =
        ("process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds");
    add(resident, "gauge", "Resident memory", resident, resident_bytes().map(|n| n as f64));
    add(files, "gauge", "Open file descriptors", files, open_files());
    add(limit, "gauge", "Most file descriptors", limit, max_files());
    let tasks = tokio::runtime::Handle::try_current().ok().map(|runtime| runtime.metrics().num_alive_tasks() as f64);
    add("campanile_tasks", "gauge", "Tasks that live in this process", "campanile_tasks", tasks);
    let started = started_at.timestamp_millis() as f64 / 1000.0;
    add(start, "gauge", "Start of the process since the epoch", start, Some(started));
    if end {
        page.push_str(END);
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold spaces; fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (user, system): (f64, f64) = (fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?);
    Some((user + system) / TICKS)
}

pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn max_files() -> Option<f64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map(|n| n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_stands_before_the_end() {
        let mut page = "x 1\n# EOF\n".to_owned();
        append(&mut page, "2026-01-01T00:00:00Z".parse().unwrap());
        assert!(page.starts_with("x 1\n# HELP process_cpu_seconds"), "{page}");
        assert!(page.ends_with("process_start_time_seconds 1767225600\n# EOF\n"), "{page}");
        for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "] {
            assert!(page.contains(&format!("\n{name}")), "{name}");
        }
    }
}
