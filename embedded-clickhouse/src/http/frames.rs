//! ClickHouse's compressed framing, which `decompress=1` and `compress=1` ask for.
//!
//! A frame is `[CityHash128 of the rest, 16 bytes][method 0x82 (LZ4) or 0x02 (none)][u32 size with these 9 bytes]
//! [u32 size of the data][data]`, little-endian. Source: `src/Compression/CompressionInfo.h` of ClickHouse.
//! Pure: bytes in, bytes out; a frame may be cut anywhere between two pushes.

use bytes::{Buf as _, Bytes, BytesMut};
use cityhash_rs::cityhash_102_128;

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const METHOD_LZ4: u8 = 0x82;
const METHOD_NONE: u8 = 0x02;

/// Largest frame that is taken, either side of the compression. Clients send at most 1 MiB a frame.
const MAX_FRAME_BYTES: u32 = 64 << 20;

/// Data of one frame that we make.
const FRAME_DATA_BYTES: usize = 1 << 20;

/// Why a frame cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The checksum is not that of the frame.
    #[error("the checksum of a compressed frame does not match its content")]
    Checksum,
    /// Neither LZ4 nor uncompressed.
    #[error("compression method 0x{0:02x} is not supported: use LZ4")]
    Method(u8),
    /// Sizes that no client sends.
    #[error("a compressed frame says it has {0} bytes; at most {MAX_FRAME_BYTES} are taken")]
    Size(u32),
    /// The LZ4 block is damaged.
    #[error("a compressed frame cannot be decompressed: {0}")]
    Lz4(String),
    /// The body ended inside a frame.
    #[error("the body ends inside a compressed frame")]
    Truncated,
}

/// Decompresses frames as they come.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Takes bytes of the body; gives the data of every frame that is complete now.
    ///
    /// # Errors
    /// [`FrameError`]; the body cannot be used any further.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        self.buffer.extend_from_slice(bytes);
        let mut data = Vec::new();
        while let Some(frame) = self.next_frame()? {
            if !frame.is_empty() {
                data.push(frame);
            }
        }
        Ok(data)
    }

    /// To be called at the end of the body.
    ///
    /// # Errors
    /// When a frame is not complete.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.buffer.get(CHECKSUM_BYTES..CHECKSUM_BYTES + HEADER_BYTES) else {
            return Ok(None);
        };
        let method = header[0];
        let size = u32::from_le_bytes(header[1..5].try_into().expect("four bytes"));
        let data_size = u32::from_le_bytes(header[5..9].try_into().expect("four bytes"));
        if method != METHOD_LZ4 && method != METHOD_NONE {
            return Err(FrameError::Method(method));
        }
        for declared in [size, data_size] {
            if declared > MAX_FRAME_BYTES {
                return Err(FrameError::Size(declared));
            }
        }
        let size = size as usize;
        if size < HEADER_BYTES {
            return Err(FrameError::Size(0));
        }
        if self.buffer.len() < CHECKSUM_BYTES + size {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(CHECKSUM_BYTES + size).freeze();
        let expected = u128::from_le_bytes(frame[..CHECKSUM_BYTES].try_into().expect("sixteen bytes"));
        frame.advance(CHECKSUM_BYTES);
        if checksum(&frame) != expected {
            return Err(FrameError::Checksum);
        }
        frame.advance(HEADER_BYTES);
        if method == METHOD_NONE {
            return if frame.len() == data_size as usize {
                Ok(Some(frame))
            } else {
                Err(FrameError::Size(data_size))
            };
        }
        let data = lz4_flex::block::decompress(&frame, data_size as usize)
            .map_err(|error| FrameError::Lz4(error.to_string()))?;
        if data.len() != data_size as usize {
            return Err(FrameError::Lz4(format!(
                "{} bytes instead of {data_size}",
                data.len()
            )));
        }
        Ok(Some(data.into()))
    }
}

fn checksum(frame: &[u8]) -> u128 {
    // The reference implementation writes the two halves the other way round.
    cityhash_102_128(frame).rotate_right(64)
}

/// Compresses data into frames.
///
/// # Panics
/// Never: a piece has at most 1 MiB.
pub fn encode(data: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    for piece in data.chunks(FRAME_DATA_BYTES) {
        let compressed = lz4_flex::block::compress(piece);
        let mut frame = Vec::with_capacity(HEADER_BYTES + compressed.len());
        frame.push(METHOD_LZ4);
        let length = |n: usize| u32::try_from(n).expect("a piece has at most 1 MiB").to_le_bytes();
        frame.extend_from_slice(&length(compressed.len() + HEADER_BYTES));
        frame.extend_from_slice(&length(piece.len()));
        frame.extend_from_slice(&compressed);
        out.extend_from_slice(&checksum(&frame).to_le_bytes());
        out.extend_from_slice(&frame);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(decoder: &mut FrameDecoder, bytes: &[u8]) -> Vec<u8> {
        decoder.push(bytes).unwrap().concat()
    }

    #[test]
    fn frame_cut_anywhere_is_decoded_once_complete() {
        let data: Vec<u8> = (0..5000_u32).flat_map(|n| (n % 97).to_le_bytes()).collect();
        let frames = [encode(&data[..9000]), encode(&data[9000..])].concat();
        for cut in [1, 15, 16, 24, 25, 26, frames.len() / 2, frames.len() - 1] {
            let mut decoder = FrameDecoder::default();
            let mut out = decode(&mut decoder, &frames[..cut]);
            out.extend(decode(&mut decoder, &frames[cut..]));
            assert_eq!(out, data);
            assert_eq!(decoder.finish(), Ok(()));
        }
    }

    #[test]
    fn damage_is_refused() {
        let good = encode(b"hello hello hello hello");
        for position in 0..good.len() {
            let mut bad = good.to_vec();
            bad[position] ^= 1;
            let mut decoder = FrameDecoder::default();
            let refused = decoder.push(&bad).is_err() || decoder.finish().is_err();
            assert!(refused, "flipped bit at {position}");
        }
        let mut decoder = FrameDecoder::default();
        decoder.push(&good[..good.len() - 1]).unwrap();
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }

    #[test]
    fn absurd_size_is_refused_before_anything_is_kept() {
        let mut frame = vec![0; 16];
        frame.push(METHOD_LZ4);
        frame.extend_from_slice(&100_u32.to_le_bytes());
        frame.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            FrameDecoder::default().push(&frame),
            Err(FrameError::Size(u32::MAX))
        );
    }

    proptest! {
        #[test]
        fn prop_encode_then_decode_is_identity(data in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0..3000usize) {
            let frames = encode(&data);
            let cut = cut.min(frames.len());
            let mut decoder = FrameDecoder::default();
            let mut out = decode(&mut decoder, &frames[..cut]);
            out.extend(decode(&mut decoder, &frames[cut..]));
            prop_assert_eq!(out, data);
        }
    }
}
