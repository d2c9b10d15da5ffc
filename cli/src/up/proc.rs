//! Reads what a process uses from `/proc`: anonymous memory and CPU time.

use std::time::Duration;

/// Anonymous resident memory of a process in bytes, `None` once it is gone.
pub(crate) fn anon_bytes(pid: u32) -> Option<u64> {
    parse_anon_bytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// User and system time of a process so far; a zombie that was not reaped yet still has it.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_cpu_time(&stat, rustix::param::clock_ticks_per_second())
}

/// The file name of what a process runs; `None` when it is gone or another user's.
pub(crate) fn program_name(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.to_string_lossy();
    // The kernel appends this to a binary that was replaced while it runs, as every build does.
    Some(name.trim_end_matches(" (deleted)").to_owned())
}

fn parse_anon_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Fields 14 and 15 of proc(5)'s `stat`, counted after the command name, which may hold anything.
fn parse_cpu_time(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |idx: usize| fields.get(idx)?.parse::<u64>().ok();
    let total = ticks(11)? + ticks(12)?;
    Some(Duration::from_secs_f64(
        total as f64 / ticks_per_second.max(1) as f64,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_read_in_bytes() {
        assert_eq!(
            parse_anon_bytes("VmRSS:\t  900 kB\nRssAnon:\t     512 kB\nRssFile:\t 1 kB\n"),
            Some(512 * 1024)
        );
        assert_eq!(parse_anon_bytes("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn cpu_time_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(parse_cpu_time(stat, 100), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_has_memory_time_and_a_name() {
        let pid = std::process::id();
        assert!(anon_bytes(pid).unwrap() > 0);
        assert!(cpu_time(pid).is_some());
        assert!(program_name(pid).unwrap().starts_with("ja4-"));
    }
}
