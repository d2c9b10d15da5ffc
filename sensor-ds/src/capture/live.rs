//! Captures on network interfaces.
//!
//! Never in immediate mode: libpcap then falls back to a ring that costs seven times the CPU time. With the
//! ring in use (`TPACKET_V3`) a blocking read does not return while no frame comes, so that handles are
//! non-blocking and the caller polls [`LiveCapture::fd`]. On the loopback interface the kernel shows each
//! frame twice, leaving and arriving; libpcap leaves the first out.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use pcap::{Active, Capture, Precision};
use sensor_flow::{Frame, TimeNs};
use sensor_wire::link;
use sensor_wire::registry::LinkType;

use super::nanoseconds;
use crate::config::LiveSettings;

/// Most frames taken in one go: at 2 million a second half a millisecond, so that timers, the other
/// interfaces and a stop request are not kept waiting.
const FRAMES_PER_TURN: usize = 1024;

/// Turns in which a ring is emptied after its interface went away: the largest ring (1 GiB) holds fewer
/// frames of the least size (about 100 bytes in the ring).
const TURNS_AFTER_LOSS: usize = 16 * 1024;

/// libpcap's name for all interfaces together.
const ANY: &str = "any";

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
    /// More interfaces than can be told apart.
    #[error("cannot capture on {name}: no more than {n_max} interfaces are told apart")]
    TooMany { name: String, n_max: u16 },
    /// It is there but down.
    #[error("{name} is down: bring it up with `ip link set {name} up`")]
    Down { name: String },
    /// Anything else libpcap says.
    #[error("cannot capture on {name}: {reason}")]
    Other { name: String, reason: String },
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

impl std::ops::AddAssign for KernelCounts {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.dropped += other.dropped;
        self.interface_dropped += other.interface_dropped;
    }
}

/// An interface of the configuration. It may be away for a while: counts go on where they stopped.
pub(crate) struct LiveCapture {
    settings: LiveSettings,
    name: String,
    number: u16,
    open: Option<OpenCapture>,
    /// It was found, not named: that it goes is no fault.
    is_found: bool,
    /// Why it is away.
    reason: String,
    counts: KernelCounts,
}

/// A handle on an interface that is there.
struct OpenCapture {
    capture: Capture<Active>,
    link: LinkType,
    /// What the kernel's counters showed last.
    last: [u32; 3],
}

impl LiveCapture {
    /// Opens interface number `number` of the configuration. One that is down is not an error: see
    /// [`Self::retry`].
    pub(crate) fn open(name: &str, number: u16, settings: &LiveSettings) -> Result<Self, OpenLiveError> {
        Self::start(name, number, settings, false)
    }

    /// The same for an interface that was found and may go at any time.
    pub(crate) fn open_found(
        name: &str,
        number: u16,
        settings: &LiveSettings,
    ) -> Result<Self, OpenLiveError> {
        Self::start(name, number, settings, true)
    }

    fn start(
        name: &str,
        number: u16,
        settings: &LiveSettings,
        is_found: bool,
    ) -> Result<Self, OpenLiveError> {
        if !is_found {
            check_exists(name)?;
        }
        let mut interface = Self {
            settings: settings.clone(),
            name: name.to_owned(),
            number,
            open: None,
            is_found,
            reason: String::new(),
            counts: KernelCounts::default(),
        };
        match OpenCapture::new(name, settings) {
            Ok(open) => interface.open = Some(open),
            Err(error @ OpenLiveError::Down { .. }) => interface.lose(&error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(interface)
    }

    /// How long after a frame nothing of its time can be missing any more: the kernel hands a block over that is
    /// not full when its time is up, and looks at it once in that time.
    pub(crate) fn block_is_handed_over_after(&self) -> Duration {
        let block_timeout_ms = u64::try_from(self.settings.block_timeout_ms).unwrap_or(0);
        Duration::from_millis(2 * block_timeout_ms + 20)
    }

    /// Its number in frames.
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Name of the interface.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Why nothing is captured on it now; `None` while it is.
    pub(crate) fn away(&self) -> Option<&str> {
        self.open.is_none().then_some(&*self.reason)
    }

    /// Opens an interface that is away, if it is back. Says so once, and each new reason why not once.
    pub(crate) fn retry(&mut self) {
        if self.open.is_some() || index_of(&self.name).is_none() && self.name != ANY {
            return;
        }
        match OpenCapture::new(&self.name, &self.settings) {
            Ok(open) => {
                tracing::info!("{} is back, capture goes on", self.name);
                self.open = Some(open);
                self.reason.clear();
            }
            Err(error) => self.lose(&error.to_string()),
        }
    }

    fn lose(&mut self, reason: &str) {
        self.open = None;
        if self.reason == reason {
            return;
        }
        if self.is_found {
            tracing::debug!("{reason}");
        } else {
            tracing::warn!("{reason}; capture goes on when it is back");
        }
        reason.clone_into(&mut self.reason);
    }

    /// Hands frames that lie ready to `take`, at most [`FRAMES_PER_TURN`]; returns how many there were.
    pub(crate) fn read(&mut self, mut take: impl FnMut(TimeNs, &Frame<'_>)) -> usize {
        let Some(open) = &mut self.open else { return 0 };
        let mut n_read = 0;
        let reason = match open.dispatch(self.number, &mut take) {
            Ok(n) => return n,
            Err(reason) => reason,
        };
        // The ring still holds what came before the interface went away.
        for _ in 0..TURNS_AFTER_LOSS {
            match open.dispatch(self.number, &mut take) {
                Ok(n) if n > 0 => n_read += n,
                _ => break,
            }
        }
        self.update_counts();
        self.lose(&format!("capture on {} ended: {reason}", self.name));
        n_read
    }

    /// Asks the kernel for its counts.
    pub(crate) fn kernel_counts(&mut self) -> KernelCounts {
        self.update_counts();
        self.counts
    }

    fn update_counts(&mut self) {
        let news = self.open.as_mut().map(OpenCapture::news).unwrap_or_default();
        self.counts += news;
    }

    /// What to poll; `None` while the interface is away.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.capture.as_fd())
    }
}

impl OpenCapture {
    fn new(name: &str, settings: &LiveSettings) -> Result<Self, OpenLiveError> {
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
        Ok(Self {
            capture,
            link,
            last: [0; 3],
        })
    }

    fn dispatch(
        &mut self,
        interface: u16,
        take: &mut impl FnMut(TimeNs, &Frame<'_>),
    ) -> Result<usize, String> {
        let link = self.link;
        let read = self.capture.dispatch(Some(FRAMES_PER_TURN), |packet| {
            let frame = Frame {
                link,
                interface,
                number: 0,
                bytes: packet.data,
            };
            take(nanoseconds(packet.header), &frame);
        });
        read.map_err(|error| super::offline::reason_of(&error))
    }

    /// What the kernel counted since the last call. Its counters are 32 bits wide and go round; one that
    /// seems to have gone back (a driver was reset) tells nothing.
    fn news(&mut self) -> KernelCounts {
        let Ok(stat) = self.capture.stats() else {
            return KernelCounts::default();
        };
        let now = [stat.received, stat.dropped, stat.if_dropped];
        let since = |idx: usize| {
            let n = now[idx].wrapping_sub(self.last[idx]);
            if n > u32::MAX / 2 { 0 } else { u64::from(n) }
        };
        let news = KernelCounts {
            received: since(0),
            dropped: since(1),
            interface_dropped: since(2),
        };
        self.last = now;
        news
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
    if name == ANY || known.iter().any(|interface| interface == name) {
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

/// Interfaces of this network namespace. `/sys` would not do: a process that was moved into another
/// namespace still sees the old one's there.
fn interface_names() -> Vec<String> {
    let devices = pcap::Device::list().unwrap_or_default();
    // libpcap lists pseudo-devices too (nflog, usbmon, bluetooth); none of them has IP frames or an index.
    devices
        .into_iter()
        .map(|device| device.name)
        .filter(|name| index_of(name).is_some())
        .collect()
}

/// The kernel's number of an interface; `None` if there is none of that name.
fn index_of(name: &str) -> Option<u32> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        None,
    )
    .ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
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
    let name = name.to_owned();
    if lower.contains("not up") || lower.contains("is down") {
        return OpenLiveError::Down { name };
    }
    OpenLiveError::Other { name, reason }
}
