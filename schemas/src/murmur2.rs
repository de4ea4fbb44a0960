//! Kafka's default partitioner, bit for bit as the Java client computes it, so that every client of every language
//! finds the same partition for a key.

/// Partition of `key` in a topic of `partitions` partitions: `toPositive(murmur2(key)) % partitions`.
/// `partitions` below 1 counts as 1.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2 with the seed and the signed result of Kafka's `Utils.murmur2`.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // The reference truncates the length to 32 bits as well.
    let mut hash = SEED ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own UtilsTest.testMurmur2.
    #[test]
    fn hashes_as_the_java_client() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn partitions_are_in_range_and_positive_for_negative_hashes() {
        assert_eq!(partition_of(b"21", 12), (-973_932_308 & 0x7fff_ffff) % 12);
        for n in [1, 2, 12, 24, i32::MAX] {
            for key in ["", "a", "NL66OPEN0000000000", "user-\u{e9}"] {
                assert!((0..n).contains(&partition_of(key.as_bytes(), n)), "{key} of {n}");
            }
        }
        assert_eq!(partition_of(b"any", 0), 0);
        assert_eq!(partition_of(b"any", -3), 0);
    }
}
