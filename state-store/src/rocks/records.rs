//! Reads the file format that RocksDB's manifest and write-ahead logs share: blocks of fragments with checksums.
//!
//! Only to look before RocksDB opens the files (see `precheck`): it goes where RocksDB's own reader would go, block by
//! block, and says at each place what stands there. The format has not changed since LevelDB.

use crate::checksum::crc32c;

const BLOCK: usize = 32 << 10;
/// Masked CRC-32C, length, type.
const HEADER: usize = 4 + 2 + 1;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// What a reader meets next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole record.
    Record(Vec<u8>),
    /// Bytes that are no fragment; reading goes on in the next block. At the end of a log: a torn tail.
    Damage,
    /// A fragment type that only recycled logs hold, which this crate never writes.
    Recycled,
}

/// Everything in a file, in order.
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    record: Option<Vec<u8>>,
}

enum Fragment<'a> {
    Part(u8, &'a [u8]),
    Damage,
    Recycled,
}

impl<'a> Records<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Records { bytes, at: 0, record: None }
    }

    /// The next fragment, `None` at the end of the file.
    fn fragment(&mut self) -> Option<Fragment<'a>> {
        if BLOCK - self.at % BLOCK < HEADER {
            self.at = self.next_block();
        }
        if self.at >= self.bytes.len() {
            return None;
        }
        let block = &self.bytes[self.at..self.next_block().min(self.bytes.len())];
        let fragment = parse(block);
        self.at = match &fragment {
            Fragment::Part(_, payload) => self.at + HEADER + payload.len(),
            // Its length cannot be trusted either.
            Fragment::Damage | Fragment::Recycled => self.next_block(),
        };
        Some(fragment)
    }

    fn next_block(&self) -> usize {
        self.at - self.at % BLOCK + BLOCK
    }
}

impl Iterator for Records<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        loop {
            let Some(fragment) = self.fragment() else {
                // A record whose end is missing is a torn tail too.
                return self.record.take().map(|_| Piece::Damage);
            };
            let (kind, payload) = match fragment {
                Fragment::Part(kind, payload) => (kind, payload),
                Fragment::Recycled => return Some(Piece::Recycled),
                Fragment::Damage => {
                    self.record = None;
                    return Some(Piece::Damage);
                }
            };
            match (kind, self.record.take()) {
                (FULL, None) => return Some(Piece::Record(payload.to_vec())),
                (FIRST, None) => self.record = Some(payload.to_vec()),
                (MIDDLE, Some(start)) => self.record = Some([&start, payload].concat()),
                (LAST, Some(start)) => return Some(Piece::Record([&start, payload].concat())),
                (FULL | FIRST | MIDDLE | LAST, _) => return Some(Piece::Damage),
                // Notes of the log about itself.
                (_, record) => self.record = record,
            }
        }
    }
}

/// The fragment at the start of what is left of a block.
fn parse(block: &[u8]) -> Fragment<'_> {
    let Some((header, rest)) = block.split_first_chunk::<HEADER>() else { return Fragment::Damage };
    let [c0, c1, c2, c3, len0, len1, kind] = *header;
    // Before the checksum, because RocksDB looks at it before the checksum.
    if matches!(kind, 5..=8 | 11 | 131) {
        return Fragment::Recycled;
    }
    let Some(payload) = rest.get(..usize::from(u16::from_le_bytes([len0, len1]))) else {
        return Fragment::Damage;
    };
    let sum = crc32c(&block[HEADER - 1..HEADER + payload.len()]);
    let masked = sum.rotate_right(15).wrapping_add(0xA282_EAD8);
    if u32::from_le_bytes([c0, c1, c2, c3]) == masked { Fragment::Part(kind, payload) } else { Fragment::Damage }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragment(kind: u8, payload: &[u8]) -> Vec<u8> {
        let body = [&[kind], payload].concat();
        let sum = crc32c(&body).rotate_right(15).wrapping_add(0xA282_EAD8);
        let len = u16::try_from(payload.len()).unwrap().to_le_bytes();
        [&sum.to_le_bytes()[..], &len, &body].concat()
    }

    fn pieces(bytes: &[u8]) -> Vec<Piece> {
        Records::of(bytes).collect()
    }

    fn record(bytes: &[u8]) -> Piece {
        Piece::Record(bytes.to_vec())
    }

    #[test]
    fn whole_and_split_records() {
        let mut file = fragment(FULL, b"one");
        file.extend(fragment(FULL, b""));
        file.extend(fragment(FIRST, &vec![7; BLOCK - file.len() - HEADER - 3]));
        // Too little room for a header: filled with zeros.
        file.extend([0; 3]);
        file.extend(fragment(MIDDLE, b"b"));
        file.extend(fragment(LAST, b"c"));
        let pieces = pieces(&file);
        assert_eq!(pieces[..2], [record(b"one"), record(b"")]);
        let Piece::Record(long) = &pieces[2] else { panic!("{:?}", pieces[2]) };
        assert!(long.len() > BLOCK / 2 && long.ends_with(b"\x07bc"));
        assert_eq!(pieces.len(), 3);
    }

    #[test]
    fn damage_drops_the_rest_of_the_block() {
        let mut file = fragment(FULL, b"one");
        file.extend(fragment(FULL, b"two"));
        let len = file.len();
        file[len - 1] ^= 1;
        file.extend(fragment(FULL, b"three"));
        file.resize(BLOCK, 0);
        file.extend(fragment(FULL, b"four"));
        assert_eq!(pieces(&file), [record(b"one"), Piece::Damage, record(b"four")]);
        assert_eq!(pieces(&file[..len - 2]), [record(b"one"), Piece::Damage]);
        assert_eq!(pieces(&fragment(FIRST, b"no end")), [Piece::Damage]);
    }

    #[test]
    fn recycled_types_are_seen_whatever_their_checksum() {
        for kind in [5, 6, 7, 8, 11, 131] {
            let mut file = fragment(FULL, b"one");
            let at = file.len();
            file.extend(fragment(FULL, b"two"));
            file[at + HEADER - 1] = kind;
            assert_eq!(pieces(&file), [record(b"one"), Piece::Recycled], "{kind}");
        }
    }

    proptest! {
        #[test]
        fn garbage_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(pieces(&bytes).len() <= 200);
        }
    }
}
