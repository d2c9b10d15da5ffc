//! One module for each command of `ja4-sensor`.

pub(crate) mod bench;
pub(crate) mod fingerprint;
pub(crate) mod mix;
pub(crate) mod probe;
pub(crate) mod run;

/// Seed of the hash tables where input is a file: the same file gives the same events.
pub(crate) const OFFLINE_SEED: sensor_flow::Seed =
    sensor_flow::Seed([0x6a61_3453, 0x656e_736f, 0x7246_6c6f, 0x7754_6162]);
