//! What peers say to each other besides events: the greeting and the acknowledgement, as JSON lines.
//!
//! ```text
//! STREAM     producer: hello ⏎ event ⏎ event ⏎ …      receiver: welcome ⏎ ack ⏎ ack ⏎ …
//! SEQPACKET  producer: hello, event, event, …         receiver: silent
//! ```
//!
//! An acknowledgement is cumulative and exclusive: `{"ack":7}` settles the events 0 to 6 of the
//! process that greeted. The welcome carries the receiver's state, so that a producer that
//! reconnects sends again just what is missing.

use crate::id::BootId;
use crate::json::Object;
use crate::limits::WIRE_VERSION;
use crate::text::Text;

/// First frame of every connection, from the producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// Versions of the wire that the producer can write.
    pub versions: Vec<u32>,
    /// Kind of producer. The receiver compares it with what the socket may carry.
    pub source: Text<'a>,
    /// Host name as the producer knows it.
    pub node: Text<'a>,
    /// The producer's process.
    pub boot: BootId,
}

impl Hello<'_> {
    /// Writes the frame without a line end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.num("v", WIRE_VERSION);
        object.str("event", "hello");
        crate::json::write_list(object.key("versions"), &self.versions, |out, &version| {
            crate::json::write_int(out, version.into());
        });
        object.text("source", &self.source);
        object.text("node", &self.node);
        object.display("boot", self.boot);
        object.close();
    }
}

/// The receiver's answer on a STREAM socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To the hello: events before `ack` are settled; send from there.
    Welcome {
        /// First number that is not settled.
        ack: u64,
    },
    /// Events before `ack` are settled.
    Ack {
        /// First number that is not settled.
        ack: u64,
    },
}

impl Reply {
    /// Writes the frame without a line end.
    pub fn write_json(self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        match self {
            Self::Welcome { ack } => {
                object.num("welcome", WIRE_VERSION);
                object.num("ack", ack);
            }
            Self::Ack { ack } => object.num("ack", ack),
        }
        object.close();
    }

    /// Reads a frame, with `std` alone: the exact form that [`Reply::write_json`] writes.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?.trim_end();
        let body = text.strip_prefix('{')?.strip_suffix('}')?;
        let (welcome, ack) = match body.strip_prefix("\"welcome\":") {
            Some(rest) => {
                let (version, ack) = rest.split_once(',')?;
                (version.parse::<u32>().ok()? == WIRE_VERSION).then_some(())?;
                (true, ack)
            }
            None => (false, body),
        };
        let ack = ack.strip_prefix("\"ack\":")?.parse().ok()?;
        Some(if welcome {
            Self::Welcome { ack }
        } else {
            Self::Ack { ack }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_survive_the_round_trip() {
        for reply in [Reply::Welcome { ack: 0 }, Reply::Ack { ack: u64::MAX }] {
            let mut out = Vec::new();
            reply.write_json(&mut out);
            assert_eq!(Reply::parse(&out), Some(reply));
        }
    }

    #[test]
    fn garbage_is_no_reply() {
        for line in [
            "",
            "{}",
            "{\"ack\":-1}",
            "{\"ack\":1",
            "{\"welcome\":2,\"ack\":1}",
            "\u{fffd}",
        ] {
            assert_eq!(Reply::parse(line.as_bytes()), None, "{line}");
        }
    }
}
