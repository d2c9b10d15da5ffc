//! One segment as bytes: header, meta, payload, and the checks on the way back. Pure.

/// First bytes of every segment; the last one is the version of the layout.
const MAGIC: [u8; 8] = *b"JA4SEG\0\x01";

/// Bytes before the meta.
pub(crate) const HEADER_BYTES: usize = 24;

/// Why bytes are no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorruptSegment {
    /// Too short, or not begun like one.
    #[error("it does not begin like a segment of this version")]
    Header,
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

/// The header of a segment with this meta and these parts of a payload.
pub(crate) fn header(meta: &[u8], payload: &[&[u8]]) -> [u8; HEADER_BYTES] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(meta);
    for part in payload {
        crc.update(part);
    }
    let payload_bytes: u64 = payload.iter().map(|part| part.len() as u64).sum();
    let meta_bytes = u32::try_from(meta.len()).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&meta_bytes.to_le_bytes());
    header[12..20].copy_from_slice(&payload_bytes.to_le_bytes());
    header[20..24].copy_from_slice(&crc.finalize().to_le_bytes());
    header
}

/// Length of the meta, if the bytes begin like a segment.
pub(crate) fn meta_bytes(header: &[u8]) -> Result<usize, CorruptSegment> {
    let header: &[u8; HEADER_BYTES] = header.first_chunk().ok_or(CorruptSegment::Header)?;
    if header[..8] != MAGIC {
        return Err(CorruptSegment::Header);
    }
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    Ok(length as usize)
}

/// Meta and payload of a whole segment.
pub(crate) fn parse(bytes: &[u8]) -> Result<(&[u8], &[u8]), CorruptSegment> {
    let meta_bytes = meta_bytes(bytes)?;
    let (header, body) = bytes.split_at(HEADER_BYTES);
    let payload_bytes = u64::from_le_bytes(header[12..20].try_into().expect("eight bytes"));
    let says = (meta_bytes as u64).saturating_add(payload_bytes);
    if says != body.len() as u64 {
        return Err(CorruptSegment::Length {
            says,
            have: body.len() as u64,
        });
    }
    let crc = u32::from_le_bytes(header[20..24].try_into().expect("four bytes"));
    if crc32fast::hash(body) != crc {
        return Err(CorruptSegment::Checksum);
    }
    Ok(body.split_at(meta_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(meta: &[u8], payload: &[u8]) -> Vec<u8> {
        [&header(meta, &[payload])[..], meta, payload].concat()
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
            // A flip between the two lengths that keeps their sum moves the border only: the bytes are right.
            let moved = parse(&flipped).is_ok_and(|(m, p)| [m, p].concat() == [&meta[..], &payload[..]].concat());
            prop_assert!(parse(&flipped).is_err() || moved);
        }

        #[test]
        fn prop_garbage_never_panics(bytes: Vec<u8>) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
