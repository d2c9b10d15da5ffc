//! Captures on network interfaces.
//!
//! Never in immediate mode: libpcap then falls back to a ring that costs seven times the CPU time. With the
//! ring in use (`TPACKET_V3`) a blocking read does not return while no frame comes, so that handles are
//! non-blocking and the caller polls [`LiveCapture::as_fd`]. On the loopback interface the kernel shows each
//! frame twice, leaving and arriving; libpcap leaves the first out.

use std::os::fd::{AsFd, BorrowedFd};

use pcap::{Active, Capture, Precision};
use sensor_flow::{Frame, TimeNs};
use sensor_wire::link;
use sensor_wire::registry::LinkType;

use super::nanoseconds;
use crate::config::LiveSettings;

/// Most frames taken in one go: at 2 million a second half a millisecond, so that timers, the other
/// interfaces and a stop request are not kept waiting.
const FRAMES_PER_TURN: usize = 1024;

/// Why an interface cannot be captured on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenLiveError {
    /// There is no such interface.
    #[error("there is no interface {name:?}{hint}; there are: {known}")]
    NoSuchInterface {
        name: String,
        hint: String,
        known: String,
    },
    /// The right to capture is missing.
    #[error(
        "not allowed to capture on {name}: grant it with `sudo setcap cap_net_raw+ep {program}`, or run as root"
    )]
    NotAllowed { name: String, program: String },
    /// The filter is not valid.
    #[error("capture.filter {filter:?} is not valid: {reason}")]
    Filter { filter: String, reason: String },
    /// The link type is not one that is read.
    #[error("link type {number} of {name} is not supported; Ethernet, raw IP, NULL, LOOP, SLL and SLL2 are")]
    UnsupportedLink { name: String, number: i32 },
    /// Anything else libpcap says.
    #[error("cannot capture on {name}: {reason}")]
    Other { name: String, reason: String },
}

/// The interface went away, or reading failed.
#[derive(Debug, thiserror::Error)]
#[error("capture on {name} ended: {reason}")]
pub(crate) struct ReadError {
    name: String,
    reason: String,
}

/// Frames that the kernel counted on one interface since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KernelCounts {
    /// Passed by the filter, dropped ones included.
    pub(crate) received: u64,
    /// No room in the ring.
    pub(crate) dropped: u64,
    /// Dropped by the interface or its driver.
    pub(crate) interface_dropped: u64,
}

/// An interface that is being captured on.
pub(crate) struct LiveCapture {
    capture: Capture<Active>,
    name: String,
    link: LinkType,
    number: u16,
    counts: KernelCounts,
    last: [u32; 3],
}

impl LiveCapture {
    /// Opens interface number `number` of the configuration.
    pub(crate) fn open(name: &str, number: u16, settings: &LiveSettings) -> Result<Self, OpenLiveError> {
        check_exists(name)?;
        let mut capture = activate(name, settings).map_err(|error| explain(name, &error))?;
        let link = LinkType(capture.get_datalink().0);
        if !link::is_supported(link) {
            return Err(OpenLiveError::UnsupportedLink {
                name: name.to_owned(),
                number: link.0,
            });
        }
        if let Some(filter) = &settings.filter {
            capture
                .filter(filter, true)
                .map_err(|error| OpenLiveError::Filter {
                    filter: filter.clone(),
                    reason: super::offline::reason_of(&error),
                })?;
        }
        let capture = capture.setnonblock().map_err(|error| explain(name, &error))?;
        let counts = KernelCounts::default();
        Ok(Self {
            capture,
            name: name.to_owned(),
            link,
            number,
            counts,
            last: [0; 3],
        })
    }

    /// Name of the interface.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Hands frames that lie ready to `take`, at most [`FRAMES_PER_TURN`]; returns how many there were.
    pub(crate) fn read(&mut self, mut take: impl FnMut(TimeNs, &Frame<'_>)) -> Result<usize, ReadError> {
        let (link, interface) = (self.link, self.number);
        let read = self.capture.dispatch(Some(FRAMES_PER_TURN), |packet| {
            let frame = Frame {
                link,
                interface,
                number: 0,
                bytes: packet.data,
            };
            take(nanoseconds(packet.header), &frame);
        });
        read.map_err(|error| ReadError {
            name: self.name.clone(),
            reason: super::offline::reason_of(&error),
        })
    }

    /// Asks the kernel for its counts. They are 32 bits wide there and go round.
    pub(crate) fn kernel_counts(&mut self) -> Result<KernelCounts, ReadError> {
        let stat = self.capture.stats().map_err(|error| ReadError {
            name: self.name.clone(),
            reason: super::offline::reason_of(&error),
        })?;
        let now = [stat.received, stat.dropped, stat.if_dropped];
        let since = |idx: usize| u64::from(now[idx].wrapping_sub(self.last[idx]));
        self.counts.received += since(0);
        self.counts.dropped += since(1);
        self.counts.interface_dropped += since(2);
        self.last = now;
        Ok(self.counts)
    }
}

impl AsFd for LiveCapture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }
}

fn activate(name: &str, settings: &LiveSettings) -> Result<Capture<Active>, pcap::Error> {
    Capture::from_device(name)?
        .promisc(settings.promiscuous)
        .snaplen(settings.snaplen_bytes)
        .buffer_size(settings.buffer_bytes)
        .timeout(settings.block_timeout_ms)
        .immediate_mode(false)
        .precision(Precision::Nano)
        .open()
}

fn check_exists(name: &str) -> Result<(), OpenLiveError> {
    let mut known = interface_names();
    if name == "any" || known.iter().any(|interface| interface == name) {
        return Ok(());
    }
    known.sort();
    let nearest = known
        .iter()
        .max_by(|a, b| likeness(name, a).total_cmp(&likeness(name, b)));
    // Below this two names share hardly more than a letter.
    let hint = nearest.filter(|nearest| likeness(name, nearest) > 0.7);
    Err(OpenLiveError::NoSuchInterface {
        name: name.to_owned(),
        hint: hint.map_or_else(String::new, |nearest| format!(", did you mean {nearest:?}?")),
        known: known.join(", "),
    })
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

/// Interfaces of this network namespace. Empty where `/sys` is not mounted: libpcap has the last word then.
fn interface_names() -> Vec<String> {
    let devices = pcap::Device::list().unwrap_or_default();
    // libpcap lists pseudo-devices too (nflog, usbmon, bluetooth); none of them has IP frames.
    let is_network = |name: &String| std::path::Path::new("/sys/class/net").join(name).exists();
    devices
        .into_iter()
        .map(|device| device.name)
        .filter(is_network)
        .collect()
}

fn explain(name: &str, error: &pcap::Error) -> OpenLiveError {
    let reason = super::offline::reason_of(error);
    let lower = reason.to_lowercase();
    let is_right = lower.contains("permission") || lower.contains("not permitted");
    if is_right || matches!(error, pcap::Error::ErrnoError(errno) if errno.0 == 1) {
        let program =
            std::env::current_exe().map_or_else(|_| "ja4-sensor".into(), |path| path.display().to_string());
        return OpenLiveError::NotAllowed {
            name: name.to_owned(),
            program,
        };
    }
    OpenLiveError::Other {
        name: name.to_owned(),
        reason,
    }
}
