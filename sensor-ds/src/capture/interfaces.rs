//! The interfaces that are captured on: those that were named, and those that are found as they come and go.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;

use sensor_flow::FlowSettings;

use super::links::{Found, Links};
use super::live::{KernelCounts, LiveCapture, OpenLiveError};
use crate::config::LiveSettings;

/// Why capture cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// One interface.
    #[error(transparent)]
    Interface(#[from] OpenLiveError),
    /// None was named, and none can be looked for.
    #[error("capture.interfaces: [auto]")]
    Links(#[source] anyhow::Error),
}

/// All interfaces.
pub(crate) struct Interfaces {
    settings: LiveSettings,
    captures: Vec<LiveCapture>,
    links: Option<Links>,
    /// Numbers that no interface has, the one given back longest ago first: packets of a connection that was seen on the
    /// one before must not be taken for others of it.
    free: VecDeque<u16>,
    /// What cannot be captured on, and why: said once.
    refused: BTreeMap<String, String>,
    /// Counts of interfaces that are gone.
    gone: KernelCounts,
}

/// What came and went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) came: Vec<String>,
    pub(crate) went: Vec<String>,
}

impl Interfaces {
    /// Opens those that are named and those that are there.
    pub(crate) fn open(settings: &LiveSettings) -> Result<Self, OpenError> {
        let mut interfaces = Self {
            settings: settings.clone(),
            captures: Vec::new(),
            links: None,
            free: (0..FlowSettings::INTERFACES_MAX).collect(),
            refused: BTreeMap::new(),
            gone: KernelCounts::default(),
        };
        for name in &settings.interfaces {
            let number = interfaces
                .free
                .pop_front()
                .unwrap_or(FlowSettings::INTERFACES_MAX);
            interfaces
                .captures
                .push(LiveCapture::open(name, number, settings)?);
        }
        if settings.is_auto {
            interfaces.links = Some(Links::watch().map_err(OpenError::Links)?);
            let found = interfaces.look().map_err(OpenError::Links)?;
            for (name, kind) in found.unwrap_or_default() {
                match interfaces.add(&name, kind) {
                    // It will be missing on every interface.
                    Err(error @ OpenLiveError::NotAllowed { .. }) => return Err(error.into()),
                    Err(error) => interfaces.refuse(&name, &error),
                    Ok(()) => {}
                }
            }
        }
        Ok(interfaces)
    }

    /// All, in order of their coming.
    pub(crate) fn all(&mut self) -> &mut [LiveCapture] {
        &mut self.captures
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.captures.iter().map(LiveCapture::name).collect()
    }

    /// Why not everything that should be is captured; empty if it is. One that was found may go.
    pub(crate) fn away(&self) -> Vec<&str> {
        let is_named = |capture: &&LiveCapture| self.is_named(capture.name());
        let mut away: Vec<&str> = self
            .captures
            .iter()
            .filter(is_named)
            .filter_map(LiveCapture::away)
            .collect();
        if self.settings.is_auto && self.captures.iter().all(|capture| capture.away().is_some()) {
            away.push("no interface is up");
        }
        away
    }

    /// What to poll.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let links = self.links.as_ref().map(Links::fd);
        self.captures.iter().filter_map(LiveCapture::fd).chain(links)
    }

    /// The kernel's counts of all, those that are gone included.
    pub(crate) fn kernel_counts(&mut self) -> KernelCounts {
        let mut sum = self.gone;
        for capture in &mut self.captures {
            sum += capture.kernel_counts();
        }
        sum
    }

    /// Looks for interfaces that came or went, if the kernel says that something changed.
    pub(crate) fn follow(&mut self) -> anyhow::Result<Change> {
        let mut change = Change::default();
        let Some(found) = self.look()? else {
            return Ok(change);
        };
        self.refused.retain(|name, _| found.contains_key(name));
        let mut kept = Vec::with_capacity(self.captures.len());
        for mut capture in std::mem::take(&mut self.captures) {
            if self.is_named(capture.name()) || found.contains_key(capture.name()) {
                kept.push(capture);
                continue;
            }
            self.gone += capture.kernel_counts();
            self.free.push_back(capture.number());
            change.went.push(capture.name().to_owned());
        }
        self.captures = kept;
        for (name, kind) in found {
            if self.captures.iter().any(|capture| capture.name() == name) {
                continue;
            }
            match self.add(&name, kind) {
                Ok(()) => change.came.push(name),
                Err(error) => self.refuse(&name, &error),
            }
        }
        Ok(change)
    }

    fn look(&mut self) -> anyhow::Result<Option<BTreeMap<String, Found>>> {
        self.links.as_mut().map_or(Ok(None), Links::changed)
    }

    fn is_named(&self, name: &str) -> bool {
        self.settings.interfaces.iter().any(|named| named == name)
    }

    fn add(&mut self, name: &str, kind: Found) -> Result<(), OpenLiveError> {
        if self.is_named(name) {
            return Ok(());
        }
        let Some(number) = self.free.pop_front() else {
            return Err(OpenLiveError::TooMany {
                name: name.to_owned(),
                n_max: FlowSettings::INTERFACES_MAX,
            });
        };
        let settings = LiveSettings {
            buffer_bytes: match kind {
                Found::Hardware => self.settings.buffer_bytes,
                Found::Pod => self.settings.pod_buffer_bytes,
            },
            ..self.settings.clone()
        };
        match LiveCapture::open_found(name, number, &settings) {
            Ok(capture) => {
                self.captures.push(capture);
                Ok(())
            }
            Err(error) => {
                self.free.push_front(number);
                Err(error)
            }
        }
    }

    fn refuse(&mut self, name: &str, error: &OpenLiveError) {
        let reason = error.to_string();
        // One that went between the list and the opening is not worth a word.
        if matches!(error, OpenLiveError::NoSuchInterface { .. }) || self.refused.get(name) == Some(&reason) {
            return;
        }
        tracing::warn!("{reason}; it is left out");
        self.refused.insert(name.to_owned(), reason);
    }
}
