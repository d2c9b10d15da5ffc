//! Gives up every right that capturing needed, once the interfaces are open.

use caps::CapSet;

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

/// Clears all capability sets of this thread and of threads started from it, and rules out getting any
/// back. Call it before other threads start. An open packet socket needs none of them.
pub(crate) fn drop_all() -> Result<(), DropError> {
    rustix::thread::set_no_new_privs(true).map_err(DropError::NoNewPrivileges)?;
    clear_bounding()?;
    let sets = [
        (CapSet::Ambient, "ambient"),
        (CapSet::Inheritable, "inheritable"),
        (CapSet::Effective, "effective"),
        (CapSet::Permitted, "permitted"),
    ];
    for (set, name) in sets {
        caps::clear(None, set).map_err(|source| DropError::Capabilities { set: name, source })?;
    }
    Ok(())
}

/// The bounding set can only be changed with `CAP_SETPCAP`; without it, it binds nobody here, as
/// `no_new_privs` already rules out what it limits.
fn clear_bounding() -> Result<(), DropError> {
    let may = caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(|source| {
        DropError::Capabilities {
            set: "effective",
            source,
        }
    })?;
    if !may {
        return Ok(());
    }
    caps::clear(None, CapSet::Bounding).map_err(|source| DropError::Capabilities {
        set: "bounding",
        source,
    })
}
