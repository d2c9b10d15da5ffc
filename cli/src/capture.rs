//! Whether `ja4-sensor` may capture packets here: this process's rights, or those on the binary's file.

use std::path::Path;

/// `CAP_NET_RAW` in capability sets, see capabilities(7).
const CAP_NET_RAW: u32 = 13;

/// Why capturing works, or the command that makes it work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CaptureRight {
    /// By this process's own effective rights (root, or given to it).
    Process,
    /// By the capability on the sensor's file.
    File,
    /// Not at all; `mend` is the command to type.
    None {
        /// As a person types it.
        mend: String,
    },
}

/// Looks at this process and at the sensor's file.
pub(crate) fn right(sensor: &Path) -> CaptureRight {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if process_may(&status) {
        return CaptureRight::Process;
    }
    let mut value = [0_u8; 64];
    let is_granted = rustix::fs::getxattr(sensor, "security.capability", &mut value)
        .is_ok_and(|len| file_may(value.get(..len).unwrap_or_default()));
    if is_granted {
        return CaptureRight::File;
    }
    CaptureRight::None {
        mend: format!("sudo setcap cap_net_raw=ep {}", sensor.display()),
    }
}

/// Whether the effective set in `/proc/PID/status` has `CAP_NET_RAW`.
fn process_may(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> CAP_NET_RAW & 1 == 1)
}

/// Whether a `security.capability` attribute permits `CAP_NET_RAW` and makes it effective.
///
/// The attribute is little-endian 32-bit words: magic and flags, then the low permitted set
/// (`struct vfs_cap_data` in `linux/capability.h`). Bit 0 of the first word is "effective".
fn file_may(attribute: &[u8]) -> bool {
    let word = |idx: usize| {
        let bytes = attribute.get(idx * 4..idx * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (Some(magic), Some(permitted)) = (word(0), word(1)) else {
        return false;
    };
    magic & 1 == 1 && permitted >> CAP_NET_RAW & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_is_read_from_the_effective_set() {
        assert!(process_may(
            "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000002000\n"
        ));
        assert!(!process_may(
            "CapPrm:\t0000000000002000\nCapEff:\t0000000000000000\n"
        ));
        assert!(!process_may("nothing of it"));
    }

    #[test]
    fn a_file_capability_counts_only_when_it_is_effective() {
        // What `setcap cap_net_raw=ep` writes (revision 2), then the same without the effective flag.
        let granted = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut permitted_only = granted;
        permitted_only[0] = 0;
        assert!(file_may(&granted));
        assert!(!file_may(&permitted_only));
        assert!(!file_may(&granted[..6]));
    }

    #[test]
    fn the_command_that_mends_it_names_the_file() {
        let right = right(Path::new("/nonexistent/ja4-sensor"));
        match right {
            CaptureRight::Process => {}
            CaptureRight::File => panic!("a file that does not exist has no capability"),
            CaptureRight::None { mend } => {
                assert_eq!(mend, "sudo setcap cap_net_raw=ep /nonexistent/ja4-sensor");
            }
        }
    }
}
