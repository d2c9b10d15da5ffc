//! Sealed segments on disk: checksummed, ordered, bounded, exact after kill -9 at any point.
//!
//! ```text
//! dir/lock                       held while a process uses the folder
//! dir/00000000000000000007.seg   a sealed segment
//! dir/00000000000000000007.marks meta of the newest segment ever sealed, once that was removed
//! dir/*.tmp                      a segment that was being written; removed at the next start
//! dir/*.corrupt                  a file whose checksum is wrong; kept for a person, counted
//!
//! segment = header with lengths and two checksums (28 bytes), meta, payload
//! ```
//!
//! Read [`Spool::seal`] first. What the rest relies on: when `seal` returned, the segment is there
//! after a crash of the process or the machine; when it failed, nothing of it is there. Ids ascend
//! for ever, also over restarts. Deliberately absent: what is in a segment, and who sends it.

mod file;
mod spool;

pub use file::CorruptSegment;
pub use spool::{
    Counters, OpenError, ReadError, Recovery, SealError, Segment, SegmentId, Spool, SpoolConfig,
};
