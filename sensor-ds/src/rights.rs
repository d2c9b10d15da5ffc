//! Gives up every right that capturing does not need, once the interfaces are open.

use caps::{CapSet, Capability, CapsHashSet};

/// Why rights could not be given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DropError {
    /// The kernel refused to change a capability set.
    #[error("cannot give up capabilities ({set})")]
    Capabilities {
        set: &'static str,
        #[source]
        source: caps::errors::CapsError,
    },
    /// The kernel refused `no_new_privs`.
    #[error("cannot rule out new privileges")]
    NoNewPrivileges(#[source] rustix::io::Errno),
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The right to open a packet socket: an interface that comes back is opened again.
    NetRaw,
    /// No right at all.
    Nothing,
}

/// Takes all other capabilities from this thread and from threads started from it, and rules out getting
/// any back. Call it before other threads start.
pub(crate) fn keep_only(kept: Kept) -> Result<(), DropError> {
    rustix::thread::set_no_new_privs(true).map_err(DropError::NoNewPrivileges)?;
    let wanted = match kept {
        Kept::NetRaw => Some(Capability::CAP_NET_RAW),
        Kept::Nothing => None,
    };
    clear_bounding(wanted)?;
    let failed = |name| move |source| DropError::Capabilities { set: name, source };
    for (set, name) in [(CapSet::Ambient, "ambient"), (CapSet::Inheritable, "inheritable")] {
        caps::clear(None, set).map_err(failed(name))?;
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    let left: CapsHashSet = wanted.into_iter().filter(|cap| permitted.contains(cap)).collect();
    caps::set(None, CapSet::Effective, &left).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &left).map_err(failed("permitted"))
}

/// The bounding set can only be changed with `CAP_SETPCAP`; without it, it binds nobody here, as
/// `no_new_privs` already rules out what it limits.
fn clear_bounding(wanted: Option<Capability>) -> Result<(), DropError> {
    let failed = |name| move |source| DropError::Capabilities { set: name, source };
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed("effective"))? {
        return Ok(());
    }
    let mut bounding: Vec<Capability> = caps::read(None, CapSet::Bounding)
        .map_err(failed("bounding"))?
        .into_iter()
        .filter(|cap| Some(*cap) != wanted)
        .collect();
    bounding.sort_by_key(Capability::index);
    for cap in bounding {
        caps::drop(None, CapSet::Bounding, cap).map_err(failed("bounding"))?;
    }
    Ok(())
}
