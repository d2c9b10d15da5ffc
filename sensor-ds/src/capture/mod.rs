//! Where frames come from: capture files and live interfaces, both through libpcap; and which interfaces there are.

pub(crate) mod interfaces;
pub(crate) mod links;
pub(crate) mod live;
pub(crate) mod offline;
mod pcapng;

use sensor_flow::TimeNs;

/// Capture time of a packet whose header carries nanoseconds in its second field.
pub(crate) fn nanoseconds(header: &pcap::PacketHeader) -> TimeNs {
    header
        .ts
        .tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(header.ts.tv_usec)
}
