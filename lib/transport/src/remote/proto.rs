//! The messages of `events.proto`, written by hand; a test compares the two.

use bytes::Bytes;

/// Version of the hop that this crate speaks.
pub const HOP_VERSION: u32 = 1;

/// Path of the one method.
pub const METHOD: &str = "/ja4.v1.Events/Stream";

/// Longest message, bytes: a batch of 64 KiB, or one event of the longest kind with its key, and framing.
pub const MAX_MESSAGE: usize = 256 << 10;

/// [`Producer::role`] of connection facts.
pub const ROLE_NETWORK: u32 = 1;
/// [`Producer::role`] of requests.
pub const ROLE_HTTP: u32 = 2;

/// From a node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientFrame {
    /// Which one.
    #[prost(oneof = "ClientFrameKind", tags = "1, 2, 3, 4, 5, 6")]
    pub frame: Option<ClientFrameKind>,
}

/// The kinds of [`ClientFrame`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ClientFrameKind {
    /// First of a stream.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// A producer process.
    #[prost(message, tag = "2")]
    Producer(Producer),
    /// Events.
    #[prost(message, tag = "3")]
    Batch(Batch),
    /// The end of a producer.
    #[prost(message, tag = "4")]
    Leave(Leave),
    /// What the node says of itself.
    #[prost(message, tag = "5")]
    Facts(Facts),
    /// Beginnings of connections that are still open and were settled before.
    #[prost(message, tag = "6")]
    Announce(Batch),
}

/// To a node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerFrame {
    /// Which one.
    #[prost(oneof = "ServerFrameKind", tags = "1, 2")]
    pub frame: Option<ServerFrameKind>,
}

/// The kinds of [`ServerFrame`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ServerFrameKind {
    /// Answers the hello.
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// Acknowledges.
    #[prost(message, tag = "2")]
    Ack(Ack),
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Of the hop.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The host.
    #[prost(string, tag = "2")]
    pub node: String,
    /// Name and version of the program, for the report.
    #[prost(string, tag = "3")]
    pub software: String,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Producer {
    /// Its number on this stream.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Kind of producer.
    #[prost(string, tag = "2")]
    pub source: String,
    /// Its process.
    #[prost(fixed64, tag = "3")]
    pub boot: u64,
    /// [`ROLE_NETWORK`] or [`ROLE_HTTP`].
    #[prost(uint32, tag = "4")]
    pub role: u32,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// Runs of one producer each.
    #[prost(message, repeated, tag = "1")]
    pub parts: Vec<Part>,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Part {
    /// The producer.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Envelopes one behind the other.
    #[prost(bytes = "bytes", tag = "2")]
    pub envelopes: Bytes,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Leave {
    /// The producer.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Facts {
    /// A JSON object.
    #[prost(bytes = "bytes", tag = "1")]
    pub json: Bytes,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// Of the hop.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The correlator's process.
    #[prost(fixed64, tag = "2")]
    pub boot: u64,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ack {
    /// Producers whose number has grown.
    #[prost(message, repeated, tag = "1")]
    pub settled: Vec<Settled>,
    /// Batches taken.
    #[prost(uint64, tag = "2")]
    pub batches: u64,
}

/// See `events.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Settled {
    /// The producer.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// First number that is not settled.
    #[prost(uint64, tag = "2")]
    pub next: u64,
}

impl From<ClientFrameKind> for ClientFrame {
    fn from(kind: ClientFrameKind) -> Self {
        Self { frame: Some(kind) }
    }
}

impl From<ServerFrameKind> for ServerFrame {
    fn from(kind: ServerFrameKind) -> Self {
        Self { frame: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// `Message.field = tag` of the .proto file.
    fn of_proto() -> BTreeSet<String> {
        let mut message = "";
        let mut found = BTreeSet::new();
        for line in include_str!("events.proto").lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("message ") {
                message = name.trim_end_matches(" {");
            } else if let Some((field, tag)) = line.split_once(" = ")
                && let Some(tag) = tag.strip_suffix(';')
                && line.starts_with(|c: char| c.is_alphabetic())
            {
                let words: Vec<&str> = field.split(' ').collect();
                if let [.., kind, name] = words[..]
                    && kind != "syntax"
                {
                    found.insert(format!("{message}.{name} {kind} = {tag}"));
                }
            }
        }
        found
    }

    /// The same of this file.
    fn of_rust() -> BTreeSet<String> {
        let (mut message, mut attribute) = (String::new(), None);
        let mut found = BTreeSet::new();
        for line in include_str!("proto.rs").lines().map(str::trim) {
            let name_of = |line: &str, before: &str| {
                let name = line.strip_prefix(before)?.trim_end_matches(" {");
                Some(name.trim_end_matches("Kind").to_owned())
            };
            if let Some(name) = name_of(line, "pub struct ").or_else(|| name_of(line, "pub enum ")) {
                message = name;
            } else if let Some(text) = line.strip_prefix("#[prost(").and_then(|l| l.strip_suffix(")]")) {
                attribute = Some(text.to_owned());
            } else if let Some(text) = attribute.take()
                && let Some((kind, tag)) = text.rsplit_once("tag = ")
            {
                let kind = kind.split([',', ' ']).next().unwrap();
                let field = line.trim_start_matches("pub ").split([':', '(']).next().unwrap();
                // A variant is named after its field.
                let inner = line
                    .trim_end_matches([',', ')', '>'])
                    .rsplit(['<', '(', ' '])
                    .next()
                    .unwrap();
                let kind = if kind == "message" { inner } else { kind };
                found.insert(format!(
                    "{message}.{} {kind} = {}",
                    field.to_lowercase(),
                    tag.trim_matches('"')
                ));
            }
        }
        found
    }

    #[test]
    fn the_messages_are_those_of_the_proto_file() {
        let (proto, rust) = (of_proto(), of_rust());
        assert!(proto.len() > 15, "{proto:?}");
        let differ: Vec<_> = proto.symmetric_difference(&rust).collect();
        assert!(differ.is_empty(), "{differ:#?}");
    }
}
