//! One segment as bytes: header, meta, payload, and the checks on the way back. Pure.
//!
//! ```text
//! offset  bytes  field (integers little-endian)
//!      0      7  "JA4SEG" and a zero byte
//!      7      1  version of this layout, 2
//!      8      4  length of the meta
//!     12      8  length of the payload
//!     20      4  CRC-32 of the bytes before and of the meta
//!     24      4  CRC-32 of the payload
//!     28      …  meta, payload
//! ```
//!
//! The meta has a checksum of its own, so that it can be trusted without reading the payload.

/// First bytes of every segment of any version.
const MAGIC: [u8; 7] = *b"JA4SEG\0";

/// The version that is written and read.
const VERSION: u8 = 2;

/// Bytes before the meta.
pub(crate) const HEADER_BYTES: usize = 28;

/// Bytes of the header that the first checksum covers.
const CHECKED_BYTES: usize = 20;

/// Why bytes are no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorruptSegment {
    /// Too short, or not begun like one.
    #[error("it does not begin like a segment")]
    Header,
    /// Another version of this program wrote it.
    #[error("it has version {0} of the layout, this program reads {VERSION}")]
    Version(u8),
    /// Shorter or longer than it says.
    #[error("it has {have} bytes and says that it has {says}")]
    Length {
        /// Bytes that it says.
        says: u64,
        /// Bytes that are there.
        have: u64,
    },
    /// Its bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
}

/// A header, as it says; its checksum covers the meta too and is not checked yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    start: [u8; CHECKED_BYTES],
    pub(crate) meta_bytes: u32,
    pub(crate) payload_bytes: u64,
    meta_crc: u32,
    payload_crc: u32,
}

/// The header of a segment with this meta and these parts of a payload; nothing if the meta has 4 GiB.
pub(crate) fn header(meta: &[u8], payload: &[&[u8]]) -> Option<[u8; HEADER_BYTES]> {
    let payload_bytes: u64 = payload.iter().map(|part| part.len() as u64).sum();
    let meta_bytes = u32::try_from(meta.len()).ok()?;
    let mut payload_crc = crc32fast::Hasher::new();
    for part in payload {
        payload_crc.update(part);
    }
    let mut header = [0; HEADER_BYTES];
    header[..7].copy_from_slice(&MAGIC);
    header[7] = VERSION;
    header[8..12].copy_from_slice(&meta_bytes.to_le_bytes());
    header[12..20].copy_from_slice(&payload_bytes.to_le_bytes());
    let mut meta_crc = crc32fast::Hasher::new();
    meta_crc.update(&header[..CHECKED_BYTES]);
    meta_crc.update(meta);
    header[20..24].copy_from_slice(&meta_crc.finalize().to_le_bytes());
    header[24..28].copy_from_slice(&payload_crc.finalize().to_le_bytes());
    Some(header)
}

impl Header {
    /// Reads the first bytes of a segment.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CorruptSegment> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(CorruptSegment::Header)?;
        if header[..7] != MAGIC {
            return Err(CorruptSegment::Header);
        }
        if header[7] != VERSION {
            return Err(CorruptSegment::Version(header[7]));
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        Ok(Self {
            start: *header.first_chunk().expect("twenty of them"),
            meta_bytes: word(8),
            payload_bytes: u64::from_le_bytes(header[12..20].try_into().expect("eight bytes")),
            meta_crc: word(20),
            payload_crc: word(24),
        })
    }

    /// Whether a file of `have` bytes is as long as the header says.
    pub(crate) fn check_length(&self, have: u64) -> Result<(), CorruptSegment> {
        let says = (HEADER_BYTES as u64 + u64::from(self.meta_bytes)).saturating_add(self.payload_bytes);
        if says == have {
            Ok(())
        } else {
            Err(CorruptSegment::Length { says, have })
        }
    }

    /// Whether header and meta are as they were written.
    pub(crate) fn check_meta(&self, meta: &[u8]) -> Result<(), CorruptSegment> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.start);
        crc.update(meta);
        if crc.finalize() == self.meta_crc {
            Ok(())
        } else {
            Err(CorruptSegment::Checksum)
        }
    }
}

/// Meta and payload of a whole segment.
pub(crate) fn parse(bytes: &[u8]) -> Result<(&[u8], &[u8]), CorruptSegment> {
    let header = Header::parse(bytes)?;
    header.check_length(bytes.len() as u64)?;
    let (meta, payload) = bytes[HEADER_BYTES..].split_at(header.meta_bytes as usize);
    header.check_meta(meta)?;
    if crc32fast::hash(payload) != header.payload_crc {
        return Err(CorruptSegment::Checksum);
    }
    Ok((meta, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(meta: &[u8], payload: &[u8]) -> Vec<u8> {
        [&header(meta, &[payload]).unwrap()[..], meta, payload].concat()
    }

    proptest! {
        #[test]
        fn prop_what_is_written_is_read(meta: Vec<u8>, payload: Vec<u8>) {
            let bytes = segment(&meta, &payload);
            prop_assert_eq!(parse(&bytes), Ok((&meta[..], &payload[..])));
        }

        #[test]
        fn prop_a_cut_or_a_flipped_bit_is_noticed(meta: Vec<u8>, payload: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8) {
            let bytes = segment(&meta, &payload);
            prop_assert!(parse(&bytes[..at.index(bytes.len())]).is_err());
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(parse(&flipped).is_err());
        }

        #[test]
        fn prop_garbage_never_panics(bytes: Vec<u8>) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
