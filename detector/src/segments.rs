//! Segments: clients are compared with their like. Pure.

/// A part of the population.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Says that it is a browser.
    Browser,
    /// Neither browser nor crawler: libraries, apps, nothing said.
    Api,
    /// Says that it is a crawler.
    DeclaredBot,
    /// No TLS fingerprint of its own: plain HTTP, or behind a proxy.
    NoTls,
    /// Everybody: what a segment falls back on while it is too small.
    All,
}

impl Segment {
    /// All of them, the fallback last.
    pub const EVERY: [Self; 5] = [
        Self::Browser,
        Self::Api,
        Self::DeclaredBot,
        Self::NoTls,
        Self::All,
    ];

    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Api => "api",
            Self::DeclaredBot => "declared_bot",
            Self::NoTls => "no_tls",
            Self::All => "all",
        }
    }

    /// The segment of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|segment| segment.name() == name)
    }
}

/// Two windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// The last hour.
    Hour,
    /// The last 24 hours.
    Day,
}

impl Window {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
        }
    }

    /// Its length, seconds.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }
}

/// The stable name of a model: `segment/window`.
pub fn model_name(segment: Segment, window: Window) -> String {
    format!("{}/{}", segment.name(), window.name())
}

/// What a client says that it is, as far as segments care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Declared {
    /// A browser.
    Browser,
    /// A crawler.
    Crawler,
    /// A library, an app, or nothing.
    #[default]
    Other,
}

/// The segment of a client.
pub const fn segment_of(declared: Declared, has_tls: bool) -> Segment {
    match (declared, has_tls) {
        (Declared::Crawler, _) => Segment::DeclaredBot,
        (_, false) => Segment::NoTls,
        (Declared::Browser, true) => Segment::Browser,
        (Declared::Other, true) => Segment::Api,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_what_is_declared_and_whether_there_is_tls() {
        assert_eq!(segment_of(Declared::Browser, true), Segment::Browser);
        assert_eq!(segment_of(Declared::Browser, false), Segment::NoTls);
        assert_eq!(segment_of(Declared::Crawler, false), Segment::DeclaredBot);
        assert_eq!(segment_of(Declared::Other, true), Segment::Api);
    }

    #[test]
    fn names_lead_back() {
        for segment in Segment::EVERY {
            assert_eq!(Segment::named(segment.name()), Some(segment));
        }
        assert_eq!(model_name(Segment::NoTls, Window::Day), "no_tls/24h");
    }
}
