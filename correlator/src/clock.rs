//! The two clocks, read in one place.

use correlator_engine::Now;
use ja4_model::WallNs;
use rustix::time::{ClockId, Timespec, clock_gettime};

fn nanos(at: Timespec) -> i64 {
    at.tv_sec.saturating_mul(1_000_000_000).saturating_add(at.tv_nsec)
}

/// Nanoseconds since the epoch.
pub(crate) fn wall_ns() -> WallNs {
    nanos(clock_gettime(ClockId::Realtime))
}

/// Nanoseconds on a clock that only goes forward.
pub(crate) fn mono_ns() -> u64 {
    u64::try_from(nanos(clock_gettime(ClockId::Monotonic))).unwrap_or(0)
}

/// Both at once.
pub(crate) fn now() -> Now {
    Now {
        mono_ns: mono_ns(),
        wall_ns: wall_ns(),
    }
}
