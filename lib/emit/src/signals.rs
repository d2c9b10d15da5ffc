//! Keeps the host's signals away from the writer's thread.
#![expect(unsafe_code, reason = "pthread_sigmask has no safe form in std or rustix")]

/// Blocks every signal in the calling thread, so that handlers of the host process run on its own
/// threads. Errors cannot happen: the arguments are constant.
pub(crate) fn block_all() {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set that it is given; pthread_sigmask reads it and may be
    // told by a null pointer that the old mask is not wanted.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}
