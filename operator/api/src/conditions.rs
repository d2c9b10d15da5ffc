//! Types and reasons of conditions. They are API: people wait for them and alerts name them.

/// Types of conditions, in the order in which they are shown.
pub mod types {
    /// The pipeline does what its spec asks.
    pub const READY: &str = "Ready";
    /// Work is under way (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// It will not go on without a change (kstatus).
    pub const STALLED: &str = "Stalled";
    /// The spec can be used.
    pub const SPEC_VALID: &str = "SpecValid";
    /// The store takes rows.
    pub const STORE_REACHABLE: &str = "StoreReachable";
    /// The store's tables are those of the release.
    pub const SCHEMA_IN_SYNC: &str = "SchemaInSync";
    /// Every node has a sensor that captures.
    pub const SENSORS_COVERED: &str = "SensorsCovered";
    /// Requests find their connections.
    pub const JOIN_HEALTHY: &str = "JoinHealthy";
    /// Every detector ran within its schedule.
    pub const DETECTORS_HEALTHY: &str = "DetectorsHealthy";
    /// No certificate ends soon.
    pub const CERTIFICATES_VALID: &str = "CertificatesValid";
    /// A person has stopped it or a part of it.
    pub const SUSPENDED: &str = "Suspended";
    /// A change waits for a person.
    pub const AWAITING_APPROVAL: &str = "AwaitingApproval";
    /// The last good set runs, not the spec's.
    pub const ROLLED_BACK: &str = "RolledBack";

    /// Every type, in the order in which they are shown.
    pub const ALL: [&str; 13] = [
        READY,
        RECONCILING,
        STALLED,
        SPEC_VALID,
        STORE_REACHABLE,
        SCHEMA_IN_SYNC,
        SENSORS_COVERED,
        JOIN_HEALTHY,
        DETECTORS_HEALTHY,
        CERTIFICATES_VALID,
        SUSPENDED,
        AWAITING_APPROVAL,
        ROLLED_BACK,
    ];
}

/// Reasons, with what each means. The first word of a failing condition's message never repeats it.
pub mod reasons {
    macro_rules! reasons {
        ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
            $($(#[doc = $doc])+ pub const $name: &str = $text;)+
            /// Every reason with what it means, for the documents.
            pub const ALL: &[(&str, &str)] = &[$(($text, concat!($($doc),+))),+];
        };
    }
    reasons! {
        /// As it should be.
        OK = "Ok";
        /// It is not known, because what would say it does not answer.
        UNKNOWN = "Unknown";
        /// It was not asked for.
        NOT_USED = "NotUsed";
        /// Something before it is not done yet.
        WAITING = "Waiting";
        /// Pods are starting or being replaced.
        PROGRESSING = "Progressing";
        /// The API server refuses an object; the message has its words.
        APPLY_FAILED = "ApplyFailed";
        /// The operator may not do what it must in this namespace.
        FORBIDDEN = "Forbidden";
        /// An image cannot be fetched.
        IMAGE_PULL_FAILED = "ImagePullFailed";
        /// A volume claim has no volume.
        VOLUME_UNBOUND = "VolumeUnbound";
        /// A port of the node is taken.
        PORT_IN_USE = "PortInUse";
        /// The namespace's quota or limits leave no room.
        QUOTA_EXCEEDED = "QuotaExceeded";
        /// Pod security of the namespace refuses a pod.
        POD_SECURITY = "PodSecurityRefused";
        /// No node has room, or none has the labels that are asked for.
        UNSCHEDULABLE = "Unschedulable";
        /// A Secret or `ConfigMap` that a pod needs is not there.
        CONFIG_MISSING = "ConfigMissing";
        /// A program ends again and again.
        CRASH_LOOPING = "CrashLooping";
        /// A field of the spec cannot be used.
        INVALID_SPEC = "InvalidSpec";
        /// The schedule never comes.
        INVALID_SCHEDULE = "InvalidSchedule";
        /// The release is not one that this operator can run.
        INVALID_VERSION = "InvalidVersion";
        /// Another pipeline in the cluster has the same port on the same nodes.
        INVALID_PORT = "InvalidPort";
        /// Nothing answers at the store's address.
        UNREACHABLE = "Unreachable";
        /// The store refuses user or password.
        WRONG_PASSWORD = "WrongPassword";
        /// A user of the store lacks a right.
        NOT_ALLOWED = "NotAllowed";
        /// The store takes no rows.
        READ_ONLY = "ReadOnly";
        /// The store's disk is full.
        DISK_FULL = "DiskFull";
        /// The store's certificate is not believed.
        TLS_FAILED = "TlsFailed";
        /// The store lacks tables.
        SCHEMA_MISSING = "SchemaMissing";
        /// The store is too busy to answer in time.
        BUSY = "Busy";
        /// The store failed otherwise; the message has its words.
        STORE_FAILED = "StoreFailed";
        /// Migrations wait for the store.
        PENDING = "Pending";
        /// Migrations run.
        APPLYING = "Applying";
        /// A migration failed; the message has statement and error.
        FAILED = "Failed";
        /// The store's tables are not as the migrations left them.
        DRIFTED = "Drifted";
        /// The store's tables are newer than this release can write.
        TOO_OLD = "TooOld";
        /// No node has the labels that are asked for.
        NO_NODE_MATCHES = "NoNodeMatches";
        /// An interface that is asked for is on no node.
        NO_INTERFACE = "NoInterface";
        /// Packets or events are dropped.
        DROPPING = "Dropping";
        /// Requests carry addresses that no connection has.
        ADDRESSES_REWRITTEN = "AddressesRewritten";
        /// No web server sends requests.
        NO_HTTP_SOURCE = "NoHttpSource";
        /// Requests come from nodes without a sensor.
        SENSOR_GAP = "SensorGap";
        /// Requests do not find their connections.
        LOW_JOIN_RATE = "LowJoinRate";
        /// A detector has not succeeded within its schedule.
        OVERDUE = "Overdue";
        /// A detector has not seen enough traffic yet.
        LEARNING = "Learning";
        /// A certificate ends soon.
        EXPIRING = "Expiring";
        /// Certificates are being replaced.
        ROTATING = "Rotating";
        /// The spec says so.
        SUSPENDED = "Suspended";
        /// A person must agree.
        APPROVAL_NEEDED = "ApprovalNeeded";
        /// The new set did not become ready in time.
        PROGRESS_DEADLINE = "ProgressDeadlineExceeded";
    }
}
